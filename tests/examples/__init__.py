"""The example apps, run as their READMEs run them: `pytest -m examples`."""
