"""The ClientApp: one agent, which reads modules that no other agent reads."""

from comdml_flwr import LanguageModel, peer_client_app
from language_model.model import transformer
from language_model.text import NUM_CHARACTERS, load_data

app = peer_client_app(model=transformer, task=LanguageModel(num_tokens=NUM_CHARACTERS), data=load_data)
