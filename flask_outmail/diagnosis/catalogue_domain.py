"""Remedies for what the domain of the From address tells the world (`domain`)."""

from __future__ import annotations

from .catalogue import Entry, entry

_WHO_DNS = "Records of a domain are changed where its DNS is kept: at the registrar, the hoster, or by whoever runs it."

DOMAIN: tuple[Entry, ...] = (
    entry(
        "extra_missing",
        title="A part of the package that this needs is not installed",
        meaning="It is optional, so that applications without it stay small.",
        steps=("Install the extra that the message names, and restart the application.",),
        who="developer",
    ),
    entry(
        "domain_not_found",
        title="The domain of the From address does not exist",
        meaning="DNS knows no such name, and most receivers refuse mail from a domain that does not exist.",
        steps=("Check the spelling of the From email address.", "If the domain is new, wait until DNS knows it."),
        who="you",
    ),
    entry(
        "mx_missing",
        title="Answers and bounces have nowhere to go",
        meaning="The domain names no server that takes its mail, so replies and notices about lost mail are lost.",
        steps=("Add an MX record, or use a From address at a domain that has one.", _WHO_DNS),
        who="mail_admin",
    ),
    entry(
        "mx_null",
        title="The domain says that it takes no mail",
        meaning="Its MX record is a lone dot, and some receivers refuse mail from a domain that cannot be answered.",
        steps=("Use a From address at a domain that takes mail, or replace the record.",),
        who="mail_admin",
    ),
    entry(
        "spf_missing",
        title="The domain does not say who may send for it",
        meaning="Without an SPF record many receivers treat its mail as suspicious.",
        steps=(
            "For Microsoft 365 add the TXT record `v=spf1 include:spf.protection.outlook.com -all`.",
            "For another service, use the record that it names.",
            _WHO_DNS,
        ),
        who="mail_admin",
    ),
    entry(
        "spf_several",
        title="The domain has more than one SPF record",
        meaning="Receivers then take none of them, so it is as if there were none.",
        steps=("Merge them into one TXT record that begins with `v=spf1`, and remove the others.", _WHO_DNS),
        who="mail_admin",
    ),
    entry(
        "spf_allows_all",
        title="The domain lets everybody send for it",
        meaning="The SPF record ends in `+all`, which allows every server in the world and so protects nothing.",
        steps=("End the record in `-all` (or `~all` while you try).", _WHO_DNS),
        who="mail_admin",
    ),
    entry(
        "spf_too_many_lookups",
        title="The SPF record asks for too much",
        meaning="More than ten look-ups make the whole record worthless to receivers.",
        steps=("Remove `include:` of services that are no longer used.", _WHO_DNS),
        who="mail_admin",
    ),
    entry(
        "spf_without_service",
        title="The mail service may not send for this domain",
        meaning="The SPF record does not include the service that the setup uses, so receivers may sort its mail out.",
        steps=("For Microsoft 365 put `include:spf.protection.outlook.com` before the `all` of the record.", _WHO_DNS),
        who="mail_admin",
    ),
    entry(
        "dkim_missing",
        title="Messages of this domain are not signed by it",
        meaning="No DKIM key is published for it, so Microsoft 365 signs with another domain, which DMARC ignores.",
        steps=(
            "In the Microsoft Defender portal open Email authentication settings, DKIM, and choose the domain.",
            "Publish the two CNAME records it shows, then switch signing on.",
        ),
        who="exchange_admin",
    ),
    entry(
        "dkim_revoked",
        title="The DKIM key of this domain is withdrawn",
        meaning="Its record is there and empty, which tells receivers not to trust signatures made with it.",
        steps=("Publish the key that the mail service signs with now.",),
        who="mail_admin",
    ),
    entry(
        "dmarc_missing",
        title="The domain does not say what to do with forgeries",
        meaning="Large receivers ask for a DMARC record from everybody who sends many messages.",
        steps=(
            "Begin with the TXT record `v=DMARC1; p=none; rua=mailto:ADDRESS` at `_dmarc` below the domain.",
            "When the reports show no mail of your own that fails, change it to `p=quarantine`, then `p=reject`.",
            _WHO_DNS,
        ),
        who="mail_admin",
    ),
    entry(
        "dmarc_none",
        title="Forgeries of this domain are delivered",
        meaning="The DMARC policy only watches, which is a good beginning and no protection yet.",
        steps=("When the reports show no mail of your own that fails, change the policy to `p=quarantine`.",),
        who="mail_admin",
    ),
    entry(
        "dmarc_several",
        title="The domain has more than one DMARC record",
        meaning="Receivers then take none of them.",
        steps=("Keep one TXT record at `_dmarc` below the domain.", _WHO_DNS),
        who="mail_admin",
    ),
    entry(
        "dmarc_unreadable",
        title="The DMARC record cannot be understood",
        meaning="It names no policy that receivers know.",
        steps=("Write `none`, `quarantine` or `reject` after its `p=`.", _WHO_DNS),
        who="mail_admin",
    ),
)
