"""An existing Chroma collection, embedded again by our rules and put in the old one's place.

::

    NAME                       the old collection: read, never written
    NAME.migrating             the new one while it is made, from shards that survive kill -9
    NAME.before-20261114       the old one's name afterwards, when the new one is called NAME
"""

from __future__ import annotations

from koe5_integrations.ingestion.migration.migrate import migrate
from koe5_integrations.ingestion.migration.planning import Plan, plan_migration
from koe5_integrations.ingestion.migration.result import Migration

__all__ = ["Migration", "Plan", "migrate", "plan_migration"]
