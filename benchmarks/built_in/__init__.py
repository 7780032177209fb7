"""How the models, data and fixtures that come with the project are made."""
