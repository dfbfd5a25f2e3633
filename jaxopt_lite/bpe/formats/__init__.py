"""The files of tokenizers: Hugging Face's, GPT-2's, tiktoken's and our own. `save` writes them, `load` reads them."""
