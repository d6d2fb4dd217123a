"""How bindserve is deployed and loaded: run from a checkout, not part of the installed package."""
