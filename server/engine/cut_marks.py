"""Tell the tool parser that the maximum number of tokens ended a text.

vLLM does not pass the reason to its parsers. The parser asks for a mark with a key in the sampling
parameters, and removes the mark from the text (model_ext/tool_parsers/gpt4tools.py).
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams

from model_ext.tool_parsers.gpt4tools import CUT, MARK_CUTS, FromParser


def take_request(params: SamplingParams) -> bool:
    """Remove the parser's key from the parameters. Returns whether the parser has set it."""
    return isinstance((params.extra_args or {}).pop(MARK_CUTS, None), FromParser)


async def mark_cuts(
    outputs: AsyncGenerator[RequestOutput, None], texts: dict[int, str]
) -> AsyncGenerator[RequestOutput, None]:
    """Yield the outputs, with the mark at the end of each text that was cut.

    Writes the text of each choice that was cut to `texts`. In a stream, this is the last piece.
    """
    async with aclosing(outputs):
        async for output in outputs:
            for choice in output.outputs:
                if choice.finish_reason == "length":
                    texts[choice.index] = choice.text
                    choice.text += CUT
            yield output
