import sys

from lab3.cli import main

sys.exit(main())
