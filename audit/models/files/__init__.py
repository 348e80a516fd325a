"""Files of models as strangers write them: folders, GGUF, tokenizers, stored weights; read and checked."""
