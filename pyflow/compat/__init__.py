"""Names of other packages: tables and translations, no method of their own; ``import pyflow`` loads none of them."""
