"""The Locust processes: commands in, engines driven, statistics shown. Only here are locust and gevent imported."""
