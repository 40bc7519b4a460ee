"""The command line: one file a subcommand, each of which teaches by example.

A command turns words into one call of `serve` or `actions`, the outcome into one sentence and an exit status: 0
done, 1 failed, 2 cannot be done as asked. Modules are imported when their command runs, so that `--help` is quick.
Must never happen here: a decision, SQL, a traceback for what the operator can put right. Who comes in: the shell.
"""
