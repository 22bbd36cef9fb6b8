// Improves the forms; without it every button is a plain submit and does the same.
(() => {
  "use strict";

  // The page brings the words in its reader's language; each stands here as it is in English.
  const words = JSON.parse(document.querySelector(".outmail[data-words]")?.dataset.words || "{}");
  const t = (text) => words[text] || text;

  // After a reload with errors the summary is what comes first.
  document.querySelector(".outmail [data-focus]")?.focus();

  // A secret can be looked at while it is typed, and is hidden again before it is sent.
  document.querySelectorAll(".outmail input[type=password]:not([readonly])").forEach((input) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "om-button om-reveal";
    button.textContent = t("Show");
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `${t("Show")}: ${input.labels[0].textContent.trim()}`);
    const hide = (isHidden) => {
      input.type = isHidden ? "password" : "text";
      button.setAttribute("aria-pressed", String(!isHidden));
    };
    button.addEventListener("click", () => hide(input.type === "text"));
    input.form?.addEventListener("submit", () => hide(true));
    const row = document.createElement("div");
    row.className = "om-secret";
    input.replaceWith(row);
    row.append(input, button);
  });

  // Texts to send on can be copied with one press.
  function addCopyButtons(root) {
    if (!navigator.clipboard) return;
    root.querySelectorAll("details.om-request pre").forEach(addCopyButton);
  }

  function addCopyButton(pre) {
    const button = document.createElement("button");
    const told = document.createElement("span");
    button.type = "button";
    button.className = "om-button";
    button.textContent = t("Copy");
    told.setAttribute("role", "status");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(pre.textContent);
        told.textContent = ` ${t("Copied.")}`;
      } catch {
        told.textContent = ` ${t("Copying is not allowed here; select the text instead.")}`;
      }
    });
    pre.before(button, told);
  }

  document.querySelectorAll(".outmail").forEach(addCopyButtons);

  document.querySelectorAll(".outmail form[data-stream]").forEach((form) => {
    if (form.dataset.fills && !("isLocked" in form.dataset)) followChoice(form);
    if (form.querySelector("[data-stale]")) watchEdits(form);
    form.addEventListener("submit", (event) => {
      const button = event.submitter;
      if (!button || button.value !== "test" || !window.fetch || !window.ReadableStream) return;
      event.preventDefault();
      runTest(form, form.querySelector("[data-test]"));
    });
  });

  // A result is about the values that were tested; after an edit that matters it says so, until the edit is undone.
  const aside = new Set(["csrf_token", "revision", "proof", "shown_service", "test_message_to", "foreign_mailbox", "from_name", "failure_alerts_to", "action"]);

  function valuesOf(form) {
    return JSON.stringify([...new FormData(form)].filter(([name, value]) => !aside.has(name) && typeof value === "string"));
  }

  function watchEdits(form) {
    const result = form.querySelector("[data-result]");
    const note = form.querySelector("[data-stale]");
    if (result.querySelector(".om-verdict")) form.testedValues = valuesOf(form);
    const look = () => {
      const isStale = form.testedValues !== undefined && valuesOf(form) !== form.testedValues;
      if (isStale === !note.hidden) return;
      note.hidden = !isStale;
      result.classList.toggle("om-is-stale", isStale);
      document.querySelectorAll(".outmail [data-verdict]").forEach((box) => { box.hidden = isStale; });
      form.querySelector("[data-live]").textContent = isStale ? note.textContent.replace("!", "").trim() : "";
    };
    form.addEventListener("input", look);
    form.addEventListener("change", look);
    form.addEventListener("tested", look);
  }

  // What the chosen service fills in itself is shown at once, and cannot be typed over.
  function followChoice(form) {
    const fills = JSON.parse(form.dataset.fills);
    const field = (name) => form.elements[name];
    const typed = { host: null, port: null, tls: null };
    let before = null;
    let offered = "";  // the port we filled in, which gives way to the next; a port that was typed does not

    function apply() {
      const chosen = form.querySelector("input[name=service]:checked");
      if (!chosen) return;
      const filled = (fills[field("auth_object").value] || fills[""])[chosen.value];
      if (!filled) return;
      const locked = filled.locked;
      for (const name of ["host", "port", "tls"]) {
        const isLocked = locked.includes(name);
        const wasLocked = before !== null && before.includes(name);
        // What stood there when the page was opened was filled in for this service, and is nothing that was typed.
        if (isLocked && !wasLocked && before !== null) typed[name] = field(name).value;
        if (isLocked) field(name).value = String(filled[name] || "");
        else if (wasLocked) { field(name).value = typed[name] || (name === "tls" ? "starttls" : ""); typed[name] = null; }
      }
      if (!locked.includes("port") && filled.port && ["", offered].includes(field("port").value)) {
        field("port").value = offered = String(filled.port);
      }
      for (const name of ["host", "port"]) field(name).readOnly = locked.includes(name);
      form.querySelectorAll("input[name=tls]").forEach((radio) => { radio.disabled = locked.includes("tls"); });
      form.querySelector("[data-tls-locked]").hidden = !locked.includes("tls");
      const needsObject = chosen.dataset.needsObject === "yes";
      form.querySelector("[data-objects]").hidden = !needsObject;
      form.querySelectorAll("[data-for-objects]").forEach((box) => { box.hidden = !needsObject; });
      form.querySelectorAll("[data-for-others]").forEach((box) => { box.hidden = needsObject; });
      document.querySelectorAll(".outmail [data-for-service]").forEach((box) => { box.hidden = box.dataset.forService !== chosen.value; });
      form.querySelector("[data-password]").hidden = needsObject;
      form.querySelector("[data-field=username] [data-label]").textContent = needsObject ? t("Username (mailbox to send as)") : t("Username");
      field("shown_service").value = chosen.value;
      before = locked;
    }

    form.addEventListener("change", (event) => {
      if (event.target.name === "service" || event.target.name === "auth_object") {
        if (event.target.name === "service" && before && !before.includes("port")) field("port").value = "";
        apply();
      }
    });
    apply();
  }

  async function runTest(form, button) {
    const live = form.querySelector("[data-live]");
    const result = form.querySelector("[data-result]");
    const cancel = form.querySelector("[data-cancel]");
    const stop = new AbortController();
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    cancel.hidden = false;
    cancel.onclick = () => stop.abort();
    clearErrors(form);
    live.classList.remove("om-hidden");
    live.textContent = t("Testing…");
    const list = document.createElement("ol");
    list.className = "om-steps";
    result.replaceChildren(list);
    try {
      const body = new FormData(form);
      form.testedValues = valuesOf(form);
      form.dispatchEvent(new Event("tested"));
      const response = await fetch(form.dataset.stream, { method: "POST", body, signal: stop.signal, headers: { Accept: "application/x-ndjson" } });
      if (!response.body || !(response.headers.get("Content-Type") || "").includes("ndjson")) throw new Error("unexpected answer");
      for await (const told of lines(response.body)) show(told, form, list, result, live);
    } catch (error) {
      for (const item of list.querySelectorAll(".om-is-waiting")) item.textContent = item.textContent.replace("…", `– ${t("not tried")}:`);
      const onItsWay = form.elements["test_message_to"]?.value ? ` ${t("A test message may be on its way already.")}` : "";
      live.textContent = stop.signal.aborted ? t("Cancelled. What had been tried is listed; nothing counts as proven.") + onItsWay : t("The test could not be run: the application did not answer as expected. Reload the page and try again.");
    } finally {
      button.removeAttribute("aria-busy");
      if (document.activeElement === cancel) button.focus();
      cancel.hidden = true;
    }
  }

  async function* lines(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part.trim()) yield JSON.parse(part);
    }
  }

  function show(told, form, list, result, live) {
    if (told.titles) {
      for (const title of told.titles) {
        const item = document.createElement("li");
        item.className = "om-step om-is-waiting";
        item.textContent = `… ${title}`;
        list.append(item);
      }
    } else if (told.number) {
      const template = document.createElement("template");
      template.innerHTML = told.html;  // rendered by our own server, everything in it escaped there
      const item = template.content.firstElementChild;
      const waiting = list.children[told.number - 1];
      if (waiting) waiting.replaceWith(item); else list.append(item);
      const state = { passed: t("passed"), warning: t("passed, look at it"), failed: t("did not pass") }[told.state];
      if (state) live.textContent = `${told.title}: ${state}`;
    } else if (told.done) {
      live.textContent = told.summary;
      if (told.html) {
        const template = document.createElement("template");
        template.innerHTML = told.html;
        addCopyButtons(template.content);
        result.append(template.content);
        live.classList.add("om-hidden");  // still spoken; the verdict shows the same words
      }
      if (told.settled) document.querySelectorAll(".outmail [data-unsettled]").forEach((box) => box.remove());
      const proof = form.elements["proof"];
      if (proof) proof.value = told.proof || "";
      for (const [name, sentence] of Object.entries(told.errors || {})) addError(form, name, sentence);
      if (told.errors) list.remove();
    }
  }

  function addError(form, name, sentence) {
    const box = form.querySelector(`[data-field="${CSS.escape(name)}"]`) || document.getElementById(name);
    if (!box) return;
    const text = document.createElement("p");
    text.className = "om-error";
    text.id = `${name}-live-error`;
    text.textContent = `✘ ${sentence}`;
    box.append(text);
    const input = document.getElementById(name);
    if (!input) return;
    input.setAttribute("aria-invalid", "true");
    input.dataset.describedBefore = input.getAttribute("aria-describedby") || "";
    input.setAttribute("aria-describedby", `${input.dataset.describedBefore} ${text.id}`.trim());
  }

  function clearErrors(form) {
    form.querySelectorAll(".om-error").forEach((text) => text.remove());
    form.querySelectorAll("[aria-invalid]").forEach((input) => {
      input.removeAttribute("aria-invalid");
      if (input.dataset.describedBefore !== undefined) input.setAttribute("aria-describedby", input.dataset.describedBefore);
    });
    form.querySelectorAll(".om-has-error").forEach((box) => box.classList.remove("om-has-error"));
    document.querySelectorAll(".outmail .om-summary").forEach((box) => { if (!box.querySelector("button")) box.remove(); });
  }
})();
