"""`python -m otelbpf` is the command `otelbpf`."""

from otelbpf.cli.main import main

if __name__ == "__main__":
    main()
