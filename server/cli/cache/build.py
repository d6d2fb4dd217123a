"""`bindserve cache build`: its options, what it reports, and what it says when it fails.

Imports nothing heavy; `cache_building.py` does the work.
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


class Dtype(StrEnum):
    float16 = "float16"
    float32 = "float32"


class Form(StrEnum):
    released = "released"
    paper = "paper"


def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="Features: .npy or .safetensors (N, D), or a folder of them. Or a FAISS index "
            "(knn.index), kept as it is. Or media: a folder, or a tab-separated list (.tsv) with "
            "the columns url (a path beside the list, or http) and caption, perhaps id."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; it appears when it is complete.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model folder. Its encoders embed media; of features, it says that they come from "
            "them. A server refuses a cache of other encoders."
        ),
    ] = None,
    modality: Annotated[
        Modality,
        typer.Option(help="Which of the media to embed. The released cache holds images."),
    ] = Modality.image,
    allow_media_urls: Annotated[
        bool, typer.Option("--allow-media-urls", help="Fetch the http(s) URLs of a list.")
    ] = False,
    keep_features: Annotated[
        Path | None, typer.Option(help="Keep the features of media in this folder, as shards.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="One a row: .txt, or .jsonl with caption and id. Default: the .jsonl beside each "
            "feature file; of a folder of media, the .txt beside each file."
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="FAISS's factory string: Flat (exact), IVFn with Flat, SQfp16, SQ8, PQm or (CPU "
            "only) PQmx4fs. auto: exact below 20,000 rows, then what the target does best."
        ),
    ] = "auto",
    target: Annotated[
        Target, typer.Option(help="Where it will be searched. A GPU cannot hold every kind.")
    ] = Target.cpu,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=parse_size, metavar="SIZE", help="What the GPU has for the index, such as 8GB."
        ),
    ] = None,
    recall: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of the true 10 nearest that the tuned search must find."
        ),
    ] = 0.98,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Features (M, D) to tune on (one half) and report on (the other), best of the "
            "modality that requests bring. Default: rows of the cache."
        ),
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Of the stored vectors. Default: float16; float32 of a FAISS index."),
    ] = None,
    normalize: Annotated[
        bool, typer.Option(help="Bring rows to unit length, as ImageBind's embeddings have it.")
    ] = True,
    encoder_sha256: Annotated[
        str | None, typer.Option(help="Instead of --model: sha256 of the encoder's weights.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="What requests use unless they say otherwise.")] = 10,
    temperature: Annotated[float, typer.Option(help="Likewise; higher: fewer count.")] = 20.0,
    weight: Annotated[float, typer.Option(help="Likewise; 0: the query, 1: the cache.")] = 0.5,
    form: Annotated[
        Form, typer.Option(help="Likewise: softmax, or the paper's equations 3 and 4.")
    ] = Form.released,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a cache.")] = False,
) -> None:
    """Build a cache from features, from a FAISS index, or from media.

    The index is tuned until it finds the share of true neighbors that --recall asks for, on half
    of the queries; what it finds for the other half stands in the manifest. Nothing is held in
    memory as a whole. A build that was stopped goes on when the same command is given again.
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
        fail("stopped; the same command goes on with what is finished", code=1)
    except ERRORS as error:
        fail(str(error), code=1)
    typer.echo(f"{out}: {manifest.count} vectors of {manifest.dimension} numbers, {manifest.kind}")
    if found := manifest.recall:
        settings = f"{manifest.search.nprobe} cells, refine {manifest.search.refine}"
        typer.echo(
            f"recall@{found.at} {found.value:.4f} on {found.queries} unseen queries ({settings})"
        )
