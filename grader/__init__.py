"""The autograder of lab3: it imports `lab3`, never the other way round."""

import sys

# jsonschema, which nbformat imports, would compile 39 grammars with this package, four seconds of a slow processor, to
# check international addresses: notebooks have none.
sys.modules.setdefault("rfc3987_syntax", None)
