"""Python programs that give the answers of commands: what `--py` prints."""
