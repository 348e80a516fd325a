"""Does editing a language model hurt what it could already do?"""
