"""The cases, by what they break. Every module here is loaded by ``tests.battery.registry``."""
