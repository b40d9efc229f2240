"""`ditflow app`: the whole journey in a browser. Read `studio.py` first, which knows no Gradio."""
