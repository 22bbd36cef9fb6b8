"""Attacks, each with the rule it must not break."""
