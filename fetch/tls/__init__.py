"""The life of a certificate: how it is made, whom it names, and the end of its connections when it has expired."""
