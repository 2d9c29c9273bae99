"""The frozen types and closed lists that everybody shares. Never imports anything else of ours."""
