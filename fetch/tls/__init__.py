"""The life of a certificate: how it is made, whom it names, how it is replaced, and the end of its connections."""
