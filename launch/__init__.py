"""Runs on many hosts: rehearsing, planning and launching them."""
