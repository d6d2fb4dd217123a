"""`bindserve eval`: evaluation of an OpenAI-style server over HTTP."""
