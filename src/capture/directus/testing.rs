//! A throw-away Postgres for the tests of this room.
