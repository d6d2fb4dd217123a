"""`bindserve cache`: the commands of the retrieval cache, each in a file of its own.

Imports nothing heavy: `--help` is fast.
"""

import typer

from server.cli.cache import build, inspection, serve, update

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def cache() -> None:
    """Build, measure, change and serve retrieval caches.

    \b
    A cache is a folder: a FAISS index of image embeddings, the embeddings themselves, their
    captions, and a manifest that says which encoder they come from. A request's embedding is
    pulled towards its nearest neighbors in it, because the language model was trained on images.
    \b
      bindserve cache build photos/ --model MODEL --out cache     from pictures
      bindserve cache build features.npy --out cache              from ready embeddings
      bindserve cache eval cache                                  recall and speed
      bindserve serve MODEL --cache cache                         in the server's own process
      bindserve cache serve cache --port 8100                     or as a service for many servers
      bindserve serve MODEL --cache http://127.0.0.1:8100
    """


app.command()(build.build)
app.command()(inspection.info)
app.command("eval")(inspection.evaluate)
app.command()(update.add)
app.command()(update.remove)
app.command()(serve.serve)
