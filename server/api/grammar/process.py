"""The template process, which forks one child per grammar. The child compiles the grammar.

Importing xgrammar takes seconds and 270 MB, so this process imports xgrammar once, and its children
share the memory. A child forks again: the grandchild compiles with limits of CPU time and memory,
and the child reports whether a limit ended the grandchild. When a request is cancelled, the API
process closes the connection, and the kernel then ends the grandchild. The answer says only whether
the grammar is valid and cheap enough. It does not contain the compiled grammar, which is too large:
578 MB for a schema with 1,000 properties.
"""

import os
import signal
import socket
import sys
from fcntl import F_GETFL, F_SETFL, F_SETOWN, fcntl
from typing import TYPE_CHECKING

from server.api.grammar.wire import CompileJob, receive, send
from server.encoding.decode import sandbox
from server.process.child import die_with_parent

if TYPE_CHECKING:
    from server.api.grammar.compilation import Compiler

# Maximum bytes of a message. The largest message is the first one, which contains the tokenizer;
# the settings have lower limits for grammars.
MAX_JOB_BYTES = 64 << 20
# The signals that end a process whose grammar is too expensive: the limit of CPU time sends the
# first, and a failed allocation in xgrammar causes the others.
OWN_SIGNALS = (signal.SIGPROF, signal.SIGABRT, signal.SIGSEGV)
NO_MEMORY = 1  # exit status after an allocation in Python has failed

# The priority of this process, lower than that of the processes that answer requests.
NICE = 19


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    sandbox.never_gain_privileges()
    sandbox.leave_network()
    os.nice(NICE)
    # Ignore SIGINT, because the parent process ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as control:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        # This imports xgrammar, and through it torch.
        from server.api.grammar.compilation import Compiler

        compiler = Compiler(receive(control, MAX_JOB_BYTES))
        send(control, {"ready": True})
        os.dup2(nothing, 1)
        # Standard error is discarded, because xgrammar prints clients' grammars there.
        os.dup2(nothing, 2)

        # With SIG_IGN, ended children do not become zombies.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not descriptors:
                return
            with socket.socket(fileno=descriptors[0]) as connection:
                if os.fork() == 0:
                    control.close()
                    run_child(compiler, connection)


def run_child(compiler: "Compiler", connection: socket.socket) -> None:
    """Report that this child runs, compile one grammar in a forked process, report whether a limit
    ended that process, and exit.
    """
    try:
        send(connection, {"forked": True})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        parent = os.getpid()
        if (child := os.fork()) == 0:
            die_with_parent(parent)
            compile_grammar(compiler, connection)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == NO_MEMORY or -code in OWN_SIGNALS:
            send(connection, {"limit": True})
    finally:
        os._exit(0)


def compile_grammar(compiler: "Compiler", connection: socket.socket) -> None:
    """Receive one grammar on the connection, compile it, send the result, and exit."""
    try:
        job = CompileJob(**receive(connection, MAX_JOB_BYTES))
        end_with(connection)
        sandbox.limit_resources(job.memory_bytes, 0)
        # The timer sends SIGPROF, which ends this process, after `cpu_s` seconds of CPU time.
        signal.setitimer(signal.ITIMER_PROF, job.cpu_s)
        send(connection, compiler.answer(job))
    except MemoryError:
        os._exit(NO_MEMORY)
    finally:
        os._exit(0)


def end_with(connection: socket.socket) -> None:
    """Make the kernel send SIGIO, which ends this process, when the other side closes the
    connection.
    """
    fcntl(connection, F_SETOWN, os.getpid())
    fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    main()
