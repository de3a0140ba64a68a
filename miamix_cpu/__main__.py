"""`python -m miamix_cpu`."""

from miamix_cpu.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
