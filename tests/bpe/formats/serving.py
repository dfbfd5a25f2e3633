"""Run in an environment of its own: what programs of other versions make of saved tokenizers. Prints JSON.

`python serving.py tokenizers FILE …` or `python serving.py transformers FOLDER …`, with the texts on standard input.
"""

import json
import sys


def encoded_by_tokenizers(path, texts):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    try:
        rows = [[int(k) for k in tokenizer.encode(text, add_special_tokens=False).ids] for text in texts]
    except TypeError:  # 1.0 has another signature
        rows = [[int(k) for k in tokenizer.encode(text).ids] for text in texts]
    except ValueError as error:
        return {"error": str(error)}
    return {"ids": rows, "decoded": [tokenizer.decode(row) for row in rows]}


def encoded_by_transformers(path, texts):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    return {
        "ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
        "eos": tokenizer.eos_token,
        "pad": tokenizer.pad_token_id,
        "chat": tokenizer.apply_chat_template(chat, tokenize=False) if tokenizer.chat_template else None,
        "padded": tokenizer(texts[:2], padding=True)["input_ids"] if tokenizer.pad_token else None,
    }


def main():
    kind, *paths = sys.argv[1:]
    texts = json.load(sys.stdin)
    by = {"tokenizers": encoded_by_tokenizers, "transformers": encoded_by_transformers}[kind]
    json.dump([by(path, texts) for path in paths], sys.stdout)


if __name__ == "__main__":
    main()
