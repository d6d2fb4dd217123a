"""Compile a grammar with xgrammar as vLLM's engine does, and measure how long the engine takes to
use it.

For each generated token, the engine computes a mask: the set of tokens that the grammar allows
next.

Runs in a process that can be killed (process.py). This module does not depend on vLLM.
"""

import json
import random
import re
import statistics
import time
from typing import Any

import numpy as np
import xgrammar

from server.api.grammar.wire import CompileJob

STEPS = 48  # Number of tokens for which the time to compute a mask is measured.
# A message of xgrammar begins with the time and the source line, e.g. "[12:00:00] /a/b.cc:12: ",
# and the condition that failed. This pattern matches these parts, which are removed.
PLACE = re.compile(r"\[[\d:]+\] \S+:\d+: |Check failed: .* is false: ")
REASON = re.compile(r"[\w ,.;:'\"()\[\]{}<>=|+*?^$&%#@!-]{1,150}")


class Compiler:
    def __init__(self, start: dict[str, Any]) -> None:
        """`start`: the first message: `tokenizer` in xgrammar's JSON, and `any_whitespace`, whether
        generated JSON may contain whitespace.
        """
        self._info = xgrammar.TokenizerInfo.deserialize_json(start["tokenizer"])
        self._whitespace: bool = start["any_whitespace"]
        self._compiler = xgrammar.GrammarCompiler(self._info, max_threads=1, cache_enabled=False)

    def answer(self, job: CompileJob) -> dict[str, Any]:
        """Compile the job's grammar. Returns `size`, the bytes of the compiled grammar, and
        `error`, the reason why the engine must not use this grammar, or None.
        """
        try:
            compiled = self._compile(job)
        except MemoryError:
            raise
        # xgrammar raises several exceptions, whose messages contain paths.
        except Exception as error:
            if "bad_alloc" in str(error):
                raise MemoryError from None
            return {"error": f"is not valid{reason(str(error))}", "size": 0}
        size, maximum = compiled.memory_size_bytes, job.compiled_bytes
        if size > maximum:
            text = f"needs {size >> 20} MiB when compiled, and the maximum is {maximum >> 20}"
            return {"error": text, "size": 0}
        return {"error": self._mask_error(compiled, job), "size": size}

    def _compile(self, job: CompileJob) -> xgrammar.CompiledGrammar:
        match job.kind:
            case "json":
                separators = None if self._whitespace else (",", ":")
                return self._compiler.compile_json_schema(
                    job.spec, any_whitespace=self._whitespace, separators=separators
                )
            case "regex":
                return self._compiler.compile_regex(job.spec)
            case "structural_tag":
                return self._compile_tag(json.loads(job.spec))
            case "lark":
                return self._compiler.compile_lark(job.spec)
        return self._compiler.compile_grammar(job.spec)

    def _compile_tag(self, tag: dict[str, Any]) -> xgrammar.CompiledGrammar:
        if "structures" not in tag:
            return self._compiler.compile_structural_tag(json.dumps(tag))
        items = [
            xgrammar.StructuralTagItem(
                begin=each["begin"], schema=json.dumps(each["schema"]), end=each["end"]
            )
            for each in tag["structures"]
        ]
        return self._compiler.compile_structural_tag(items, tag["triggers"])

    def _mask_error(self, compiled: xgrammar.CompiledGrammar, job: CompileJob) -> str | None:
        """Generate one random text that the grammar allows, and measure the time to compute each
        token's mask. Returns the reason why the grammar is rejected, or None.
        """
        matcher = xgrammar.GrammarMatcher(compiled)
        vocabulary = self._info.vocab_size
        mask = xgrammar.allocate_token_bitmask(1, vocabulary)
        dice, milliseconds = random.Random(0), []
        stops = [token for token in self._info.stop_token_ids if token < vocabulary]
        for _ in range(STEPS):
            started = time.thread_time()
            matcher.fill_next_token_bitmask(mask)
            milliseconds.append((time.thread_time() - started) * 1000)
            bits = np.unpackbits(mask.numpy().view(np.uint8), bitorder="little")[:vocabulary]
            if not bits.any():
                return "allows no text"
            bits[stops] = 0
            tokens = np.flatnonzero(bits)
            if not len(tokens):
                break
            if not matcher.accept_token(int(dice.choice(tokens))):
                return "has a rule that begins with itself"
            if matcher.is_terminated():
                break
        if (cost := statistics.mean(milliseconds)) > job.mask_ms:
            return f"needs {cost:.1f} ms per token, and the maximum is {job.mask_ms:g}"
        return None


def reason(message: str) -> str:
    """Return `: ` and the reason from xgrammar's message, without the source line.

    Returns an empty text if the reason does not match REASON, for example because it contains a
    path.
    """
    text = " ".join(PLACE.sub("", message).split())
    return f": {text}" if REASON.fullmatch(text) else ""
