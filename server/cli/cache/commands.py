"""`bindserve cache ...`: lists the commands of the retrieval cache.

The imported modules import NumPy and torch only when a command runs, so that `--help` is fast.
"""

import typer

from server.cli.cache import build, inspection, serve, update

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def cache() -> None:
    """Build, measure, change and serve retrieval caches.

    \b
    A cache is a folder with image embeddings, a FAISS index of them, their captions, and a
    manifest, which names the encoder that made the embeddings. The server moves a request's
    embedding towards its nearest neighbors in the cache, because the language model was trained on
    images only.
    \b
      bindserve cache build photos/ --model MODEL --out cache     from images
      bindserve cache build features.npy --out cache              from finished embeddings
      bindserve cache eval cache                                  recall and speed
      bindserve serve MODEL --cache cache                         search in the server's process
      bindserve cache serve cache --port 8100                     search in a retrieval service
      bindserve serve MODEL --cache http://127.0.0.1:8100
    """


app.command()(build.build)
app.command()(inspection.info)
app.command("eval")(inspection.evaluate)
app.command()(update.add)
app.command()(update.remove)
app.command()(update.shuffle)
app.command()(serve.serve)
