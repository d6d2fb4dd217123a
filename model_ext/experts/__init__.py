"""Experts: side models that turn an attachment into text, which the language model gets as context
(section 4.5 of the paper).
"""
