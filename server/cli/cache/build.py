"""`bindserve cache build`: its options, report and error messages.

`builder.py` builds the cache. This module does not import NumPy or torch, so that `--help` is fast.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from server.cli.embed import Modality
from server.cli.sizes import parse_size
from server.logs import fail


class Target(StrEnum):
    cpu = "cpu"
    gpu = "gpu"


class RowDtype(StrEnum):
    float16 = "float16"
    float32 = "float32"


class CacheForm(StrEnum):
    released = "released"
    paper = "paper"


def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="One of: features, i.e. a .npy or .safetensors file (N, D) or a folder of them; a "
            "FAISS index (knn.index), which is kept unchanged; a folder of media; a tab-separated "
            "list of media (.tsv) with the columns url (http URL, or path relative to the list), "
            "caption and optionally id."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Cache folder to write. It exists only when it is complete.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model folder, whose encoders embed media. If the source is features: the model "
            "that made them. A server rejects a cache whose features come from other encoders."
        ),
    ] = None,
    modality: Annotated[
        Modality,
        typer.Option(help="Modality of the media to embed. Files of other modalities are skipped."),
    ] = Modality.image,
    allow_media_urls: Annotated[
        bool,
        typer.Option(
            "--allow-media-urls", help="Fetch the http(s) URLs of a list, from public addresses."
        ),
    ] = False,
    keep_features: Annotated[
        Path | None,
        typer.Option(help="Folder in which to keep the features of media. Default: delete them."),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Captions of features, one line per row: .txt, or .jsonl with caption and id. "
            "Default: the .jsonl beside each feature file. Not for media, whose captions are in "
            "the .txt beside each file, or in the list's column."
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="FAISS factory string: Flat (exact), or IVFn with Flat, SQfp16, SQ8, PQm or (CPU "
            "only) PQmx4fs. auto: Flat below 20,000 rows, otherwise the kind that suits --target."
        ),
    ] = "auto",
    target: Annotated[
        Target,
        typer.Option(help="Device that will search the index. A GPU does not support every kind."),
    ] = Target.cpu,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="GPU memory for the index, e.g. 8GB. Required for --target gpu with --kind auto.",
        ),
    ] = None,
    recall: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Recall that tuning must reach: the share of the true 10 nearest neighbors that "
            "the search finds.",
        ),
    ] = 0.98,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Features (M, D) as queries: one half for tuning, the other half for the reported "
            "recall. Use the modality of future requests if possible. Default: rows of the cache."
        ),
    ] = None,
    dtype: Annotated[
        RowDtype | None,
        typer.Option(
            help="Precision of the stored vectors. Default: float16; for a FAISS index float32."
        ),
    ] = None,
    normalize: Annotated[
        bool, typer.Option(help="Scale rows to unit length, like ImageBind's embeddings.")
    ] = True,
    encoder_sha256: Annotated[
        str | None, typer.Option(help="sha256 of the encoder's weights, instead of --model.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="Neighbors that a request retrieves by default.")] = 10,
    temperature: Annotated[
        float,
        typer.Option(
            help="Default for requests: factor of the similarities in the softmax over neighbors."
        ),
    ] = 20.0,
    weight: Annotated[
        float,
        typer.Option(
            help="Default for requests: weight of the neighbors. 0: no effect, 1: only neighbors."
        ),
    ] = 0.5,
    form: Annotated[
        CacheForm,
        typer.Option(
            help="Default for requests: the released softmax, or the paper's equations 3 and 4."
        ),
    ] = CacheForm.released,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the cache in --out.")
    ] = False,
) -> None:
    """Build a cache from features, from a FAISS index, or from media.

    Tunes the search until it reaches --recall on one half of the queries, and writes the recall on
    the other half to the manifest. Memory does not limit the number of rows, because all data are
    read in blocks. Run the same command again to resume an interrupted build.
    """
    from server.cli.cache.builder import ERRORS, Request, run

    try:
        manifest = run(
            Request(
                source=source,
                out=out,
                model=model,
                modality=modality.value,
                allow_media_urls=allow_media_urls,
                keep_features=keep_features,
                captions=captions,
                kind=kind,
                target=target.value,
                memory=memory,
                recall=recall,
                queries=queries,
                dtype=dtype.value if dtype else None,
                normalized=normalize,
                encoder_sha256=encoder_sha256,
                top_k=top_k,
                temperature=temperature,
                weight=weight,
                form=form.value,
                overwrite=overwrite,
            )
        )
    except KeyboardInterrupt:
        fail("interrupted; run the same command again to resume", code=1)
    except ERRORS as error:
        fail(str(error), code=1)
    typer.echo(f"{out}: {manifest.count} vectors of {manifest.dimension} numbers, {manifest.kind}")
    if recall_result := manifest.recall:
        settings = f"{manifest.search.nprobe} cells, refine {manifest.search.refine}"
        typer.echo(
            f"recall@{recall_result.at} {recall_result.value:.4f} "
            f"on {recall_result.queries} unseen queries ({settings})"
        )
