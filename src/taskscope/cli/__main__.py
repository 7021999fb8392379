"""``python -m taskscope.cli`` does what the ``taskscope`` command does."""

from taskscope.cli.main import main

main()
