"""Settings: one frozen value, read once. ``load`` is the only reader of environment and secret files."""

from gateway.settings.loading import Loaded, load
from gateway.settings.model import QUEUES, Role, Settings
from gateway.settings.problems import SettingProblem, SettingsError
from gateway.settings.redis_target import RedisForm, RedisTarget, redis_target
from gateway.settings.shared import shared_settings
from gateway.settings.show import SettingRow, masked_url, setting_rows

__all__ = [
    "QUEUES",
    "Loaded",
    "RedisForm",
    "RedisTarget",
    "Role",
    "SettingProblem",
    "SettingRow",
    "Settings",
    "SettingsError",
    "load",
    "masked_url",
    "redis_target",
    "setting_rows",
    "shared_settings",
]
