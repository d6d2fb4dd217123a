"""A fake step for tests of gpu_check.py. The name of its work folder selects what it does."""

import subprocess
import sys
import time

from deploy.gpu.arguments import Arguments


def main() -> None:
    arguments = Arguments.parse(__doc__)
    name = arguments.work.name
    arguments.rows.number("speed", 2, "", at_least=3 if name == "slow" else 1)
    if name == "measuring":
        arguments.wait_until_quiet()
        arguments.rows.check("waited for the others", (arguments.work.parent / "done").exists())
    if name == "hanging":
        command = ["sleep", "300"]
        child = subprocess.Popen(command, start_new_session=True)
        (arguments.work.parent / "pid").write_text(str(child.pid))
        time.sleep(300)
    if name == "failing":
        sys.exit("no such card")
    if name == "checking":
        time.sleep(0.5)
        (arguments.work.parent / "done").touch()


if __name__ == "__main__":
    main()
