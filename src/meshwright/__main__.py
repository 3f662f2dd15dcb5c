"""`python -m meshwright` is the same program as `meshwright`."""

import sys

if __name__ == "__main__":
    try:
        from meshwright.cli.app import main
    except KeyboardInterrupt:
        sys.exit(130)
    main()
