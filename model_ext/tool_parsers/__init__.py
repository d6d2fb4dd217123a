"""Parse the calls of tools that a model writes in the form of GPT4Tools.

The chat template (model_ext/chat_template.jinja) does the reverse: it writes tools, calls and
results into the prompt. `gpt4tools.py` is the plugin for vLLM; the other modules do not depend on
vLLM.
"""
