"""What the server runs, each on one key or on two of one slot.

Plain EVAL of Redis 5 and later: nothing is kept on the server, so none is lost when it is flushed
or fails over. Time is the server's own, TIME: gateways' clocks need not agree.
"""

from __future__ import annotations

from typing import Final

# As a string: a Lua number holds 53 bits.
ADD: Final = """
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('GET', KEYS[1])
"""

# A token is the time in ms, or one more than the last where that is no more: it rises although
# the last one was lost, with the data of a server or in a failover. What no gateway wrote is no
# hold and no token: a token has 15 digits at most.
ACQUIRE: Final = """
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' then held = '' end
local before, holder = string.match(held, '^(%d+):(.*)$')
if before and #before < 16 then
  if holder ~= ARGV[1] then return '0' end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return before
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = redis.pcall('GET', KEYS[2])
last = type(last) == 'string' and string.match(last, '^%d+$')
local token = math.max((last and #last < 16 and tonumber(last) or 0) + 1, now)
token = string.format('%.0f', token)
redis.call('SET', KEYS[2], token, 'PX', ARGV[3])
redis.call('SET', KEYS[1], token .. ':' .. ARGV[1], 'PX', ARGV[2])
return token
"""

RELEASE: Final = """
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.match(held, '^%d+:(.*)$') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""

# A room is a hash: member -> 'when it ends in ms:row'. Fields have no expiry of their own before
# Redis 7.4, so rows that ended are taken out by whoever reads,
# as is what no gateway wrote. More bytes than the caller has time for are not sent: only how many.
EXCHANGE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = now + ARGV[3]
local row = string.format('%.0f:', last) .. ARGV[2]
local put = redis.pcall('HSET', KEYS[1], ARGV[1], row)
if type(put) == 'table' then
  if not string.find(put.err, 'WRONGTYPE', 1, true) then return put end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], ARGV[1], row)
end
local rows, found, size = redis.call('HGETALL', KEYS[1]), {}, 0
for i = 1, #rows, 2 do
  local ends = tonumber(string.match(rows[i + 1], '^(%d+):'))
  if ends and ends > now and ends <= now + ARGV[5] then
    if ends > last then last = ends end
    found[#found + 1] = rows[i]
    found[#found + 1] = rows[i + 1]
    size = size + #rows[i + 1]
  else
    redis.call('HDEL', KEYS[1], rows[i])
  end
end
if #found > 2 * ARGV[4] then
  redis.call('HDEL', KEYS[1], ARGV[1])
  return redis.error_reply('CROWDED the room has no place for one more')
end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last))
if size > tonumber(ARGV[6]) then return {string.format('%.0f', size)} end
return found
"""
