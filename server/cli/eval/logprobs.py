"""Get the log-probability of each candidate answer over HTTP, with vLLM's extensions of the chat
API.

The request has the candidate as the assistant's unfinished message, and asks with `prompt_logprobs`
for the log-probabilities of all prompt tokens. If the prompt without the candidate has n tokens,
the candidate's tokens are those after the first n.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.cli.eval.client import Client

ONE_TOKEN = {"max_tokens": 1, "prompt_logprobs": 0, "temperature": 0.0}


async def candidate_logprobs(
    client: "Client", body: dict[str, Any], candidates: list[str], name: str
) -> list[float]:
    """Return the mean log-probability of each candidate's tokens, with the candidate as the answer
    to the request `body`.

    Raises AskError: when the server does not return log-probabilities of prompts.
    """
    base = await client.prompt_logprobs({**body, **ONE_TOKEN}, name)
    means = []
    for candidate in candidates:
        message = {"role": "assistant", "content": candidate}
        request = {
            **body,
            **ONE_TOKEN,
            "messages": [*body["messages"], message],
            "add_generation_prompt": False,
            "continue_final_message": True,
        }
        tokens = await client.prompt_logprobs(request, name)
        common = shared_prefix([key for key, _ in base], [key for key, _ in tokens])
        values = [value for _, value in tokens[common:]] or [float(tokens[-1][1])]
        means.append(sum(values) / len(values))
    return means


def shared_prefix(first: list[str], second: list[str]) -> int:
    pairs = zip(first, second, strict=False)
    return next(
        (index for index, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second))
    )
