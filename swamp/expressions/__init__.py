"""`${{ … }}`: what may stand in definitions instead of a value, and what it refers to. Pure."""
