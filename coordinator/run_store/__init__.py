"""The runs of a coordinator's folder as a database: made from its files, and made again from them when it is lost."""
