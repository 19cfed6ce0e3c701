"""Text sources -> documents, streamed: files of several kinds, folders of them, Hugging Face datasets."""

from featgraph.text.reading import documents, text_digest

__all__ = ["documents", "text_digest"]
