"""Scripts about jobs and the processes that do them. Each begins with `scripts.SHARED`."""

from __future__ import annotations

from typing import Final

from router.deferral.redis.scripts import BEGINS, FREES

# 1: id, 2: fence, 3: most jobs, 4: how many bad lines, then these: line, what is kept of it; then
# jobs: line, offset, size, custom_id, model, bytes of its body.
ADD_LINES: Final = """
local id = ARGV[1]
if not held(id, ARGV[2]) then return 0 end
local owner, read = of_batch(id, 'owner'), tonumber(of_batch(id, 'read'))
local first, last = 5 + 2 * tonumber(ARGV[4]), read
local fresh, same = {}, {}
for i = first, #ARGV, 6 do
  local line = tonumber(ARGV[i])
  if line > read then
    if call('SADD', K .. 'ids:' .. id, ARGV[i + 3]) == 1 then fresh[#fresh + 1] = i
    else same[#same + 1] = i end
  end
  if line > last then last = line end
end
local waits = used('jobs', owner) + #fresh
if waits > tonumber(ARGV[3]) then
  for _, i in ipairs(fresh) do call('SREM', K .. 'ids:' .. id, ARGV[i + 3]) end
  return {'!lines', waits}
end
local refused = #same
for _, i in ipairs(same) do call('HSET', K .. 'done:' .. id, ARGV[i], 'D' .. ARGV[i + 3]) end
for i = 5, first - 1, 2 do
  local line = tonumber(ARGV[i])
  if line > read then
    refused = refused + 1
    call('HSET', K .. 'done:' .. id, ARGV[i], ARGV[i + 1])
  end
  if line > last then last = line end
end
local jobs, bytes = {}, {}
for _, i in ipairs(fresh) do
  local model = ARGV[i + 4]
  local stream = K .. 'jobs:' .. id .. ':' .. model
  if not jobs[model] then
    jobs[model], bytes[model] = 0, 0
    if call('SADD', K .. 'models:' .. id, model) == 1 then
      call('XGROUP', 'CREATE', stream, 'g', '0', 'MKSTREAM')
    end
  end
  jobs[model], bytes[model] = jobs[model] + 1, bytes[model] + tonumber(ARGV[i + 5])
  call('XADD', stream, ARGV[i] .. '-1', 'o', ARGV[i + 1], 's', ARGV[i + 2], 'c', ARGV[i + 3])
end
for model, more in pairs(jobs) do
  call('HINCRBY', K .. 'kind:' .. id .. ':' .. model, 'jobs', more)
  call('HINCRBY', K .. 'kind:' .. id .. ':' .. model, 'bytes', bytes[model])
end
call('HINCRBY', K .. 'b:' .. id, 'total', #fresh + refused)
call('HINCRBY', K .. 'b:' .. id, 'failed', refused)
call('HSET', K .. 'b:' .. id, 'read', last)
if #fresh > 0 then use('jobs', owner, #fresh) end
return 1
"""

# All: ids and models by turns; of each what stays as it is, and why it waits.
KINDS: Final = """
local found = {}
for i = 1, #ARGV, 2 do
  local batch = call('HMGET', K .. 'b:' .. ARGV[i], 'n', 'owner', 'terms', 'created', 'expires')
  local kind = call('HMGET', K .. 'kind:' .. ARGV[i] .. ':' .. ARGV[i + 1], 'bytes', 'jobs',
                    'at_once', 'why')
  for _, one in ipairs(kind) do batch[#batch + 1] = one end
  found[#found + 1] = batch
end
return found
"""

# 1: worker, 2: now, 3: what is to wait for longer was put back before a clock was set back; then
# id, model and most by turns. Of each job: id, model, line, fence, offset, size, custom_id, tries.
CLAIM: Final = (
    BEGINS
    + """
-- A line that is taken by a script that then ends is nobody's: what can go wrong does before that.
for _, key in ipairs({'waiting', 'running'}) do call('HEXISTS', K .. key, '') end
local function is_whole(kind)
  for _, found in ipairs({redis.pcall('XPENDING', K .. 'jobs:' .. kind, 'g'),
                          redis.pcall('ZCARD', K .. 'later:' .. kind),
                          redis.pcall('HEXISTS', K .. 'tries:' .. kind, '')}) do
    if type(found) == 'table' and found.err then return false end
  end
  return true
end
local found = {}
for at = 4, #ARGV, 3 do
  local id, model, most = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local kind = id .. ':' .. model
  local stream, later = K .. 'jobs:' .. kind, K .. 'later:' .. kind
  if of_batch(id, 'status') == 'in_progress' and not of_batch(id, 'past') and most > 0
     and is_whole(kind) then
    local again = call('ZRANGEBYSCORE', later, '-inf', ARGV[2], 'LIMIT', 0, most)
    for _, line in ipairs(call('ZRANGEBYSCORE', later, ARGV[3], '+inf', 'LIMIT', 0,
                               most - #again)) do
      again[#again + 1] = line
    end
    local entries = {}
    for _, line in ipairs(again) do
      call('ZREM', later, line)
      local one = call('XCLAIM', stream, 'g', ARGV[1], 0, line .. '-1')[1]
      local told = call('XPENDING', stream, 'g', line .. '-1', line .. '-1', 1)[1]
      if one then entries[#entries + 1] = {one, told[4]} end
    end
    if #again < most then
      local fresh = call('XREADGROUP', 'GROUP', 'g', ARGV[1], 'COUNT', most - #again, 'STREAMS',
                         stream, '>')
      for _, one in ipairs(fresh and fresh[1][2] or {}) do entries[#entries + 1] = {one, 1} end
    end
    for _, entry in ipairs(entries) do
      local line, kept = string.match(entry[1][1], '^%d+'), entry[1][2]
      local tries = call('HGET', K .. 'tries:' .. kind, line) or 0
      found[#found + 1] = {id, model, line, entry[2], kept[2], kept[4], kept[6], tries}
    end
    count('waiting', kind, -#entries)
    count('running', kind, #entries)
  end
end
return found
"""
)

# 1: id; how many are under way.
UNDER_WAY: Final = """
local sum = 0
for _, model in ipairs(call('SMEMBERS', K .. 'models:' .. ARGV[1])) do
  sum = sum + tonumber(call('HGET', K .. 'running', ARGV[1] .. ':' .. model) or 0)
end
return sum
"""

# id, model and words by turns.
NOTE_WHY: Final = """
for i = 1, #ARGV, 3 do
  local kind = K .. 'kind:' .. ARGV[i] .. ':' .. ARGV[i + 1]
  if call('EXISTS', kind) == 1 then call('HSET', kind, 'why', ARGV[i + 2]) end
end
"""

# 1: id, 2: model, 3: line, 4: fence, 5: worker, 6: "1" where it is answered, 7: what is kept,
# 8-13: sums.
FINISH: Final = (
    FREES
    + """
local id, line = ARGV[1], ARGV[3]
local kind = id .. ':' .. ARGV[2]
if not has(kind, line, ARGV[5], ARGV[4]) then return 0 end
call('XACK', K .. 'jobs:' .. kind, 'g', line .. '-1')
call('XDEL', K .. 'jobs:' .. kind, line .. '-1')
call('HDEL', K .. 'tries:' .. kind, line)
call('HSET', K .. 'done:' .. id, line, ARGV[7])
count('running', kind, -1)
use('jobs', of_batch(id, 'owner'), -1)
call('HINCRBY', K .. 'b:' .. id, ARGV[6] == '1' and 'completed' or 'failed', 1)
for i, name in ipairs({'input_tokens', 'output_tokens', 'gco2e', 'saved_g', 'gco2e_answers',
                       'saved_answers'}) do
  if tonumber(ARGV[7 + i]) ~= 0 then
    call('HINCRBYFLOAT', K .. 'b:' .. id, name, ARGV[7 + i])
  end
end
settle(id)
return 1
"""
)

# 1: id, 2: model, 3: line, 4: fence, 5: worker, 6: not before, 7: "1" where a server failed it.
PUT_BACK: Final = (
    FREES
    + """
local kind = ARGV[1] .. ':' .. ARGV[2]
if not has(kind, ARGV[3], ARGV[5], ARGV[4]) then return 0 end
give_up(ARGV[1], kind, ARGV[3], ARGV[6])
if ARGV[7] == '1' then call('HINCRBY', K .. 'tries:' .. kind, ARGV[3], 1) end
return 1
"""
)

# 1: worker; then id, model, line and fence by turns; "1" or "0" for each.
HELD: Final = """
local found = {}
for i = 2, #ARGV, 4 do
  local kind = ARGV[i] .. ':' .. ARGV[i + 1]
  found[#found + 1] = has(kind, ARGV[i + 2], ARGV[1], ARGV[i + 3]) and 1 or 0
end
return found
"""

# 1: now, 2: the code of what has not begun; how many. Of two clocks the later is not believed.
EXPIRE: Final = (
    FREES
    + """
local sum, now = 0, math.min(ARGV[1], call('TIME')[1])
for _, id in ipairs(call('ZRANGEBYSCORE', K .. 'deadlines', '-inf', now, 'LIMIT', 0, 100)) do
  call('ZREM', K .. 'deadlines', id)
  call('HSET', K .. 'b:' .. id, 'past', 1, 'code', ARGV[2])
  local waits = 0
  for _, model in ipairs(call('SMEMBERS', K .. 'models:' .. id)) do
    waits = waits + tonumber(call('HGET', K .. 'waiting', id .. ':' .. model) or 0)
    call('HDEL', K .. 'waiting', id .. ':' .. model)
  end
  if waits > 0 then
    call('HINCRBY', K .. 'b:' .. id, 'expired', waits)
    fail(id, waits)
  end
  settle(id)
  sum = sum + waits
end
return sum
"""
)

# 1: id, 2: first line, 3: last; lines that have ended, and what is kept; then the code of the
# others; then their lines and custom_ids.
LINES: Final = """
local id, from, to = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local names = {}
for line = from, to do names[#names + 1] = line end
local kept, ended = call('HMGET', K .. 'done:' .. id, unpack(names)), {}
for i, one in ipairs(kept) do
  if one then
    ended[#ended + 1] = names[i]
    ended[#ended + 1] = one
  end
end
local others = {}
for _, model in ipairs(call('SMEMBERS', K .. 'models:' .. id)) do
  for _, one in ipairs(call('XRANGE', K .. 'jobs:' .. id .. ':' .. model, from .. '-1',
                            to .. '-1')) do
    others[#others + 1] = string.match(one[1], '^%d+')
    others[#others + 1] = one[2][6]
  end
end
return {of_batch(id, 'read') or '0', of_batch(id, 'code') or '', ended, others}
"""

# What a process had claimed waits again, but for lines (id:model:line) and batches that are named.
_TAKE: Final = """
local function take_from(worker, but)
  local taken = 0
  for _, kind in ipairs(call('HKEYS', K .. 'running')) do
    local id = string.match(kind, '^[^:]+')
    local stream = K .. 'jobs:' .. kind
    local found = redis.pcall('XPENDING', stream, 'g', '-', '+', 100000, worker)
    for _, one in ipairs(found.err and {} or found) do
      local line = string.match(one[1], '^%d+')
      if not but[kind .. ':' .. line] then
        give_up(id, kind, line, 0)
        taken = taken + 1
      end
    end
  end
  local claimed = call('HGETALL', K .. 'claimed')
  for i = 1, #claimed, 2 do
    local id = claimed[i]
    if claimed[i + 1] == worker and not but[id] then
      let_go(id)
      call('HINCRBY', K .. 'b:' .. id, 'fence', 1)
      local set = of_batch(id, 'status') == 'validating' and 'unread' or 'done'
      call('ZADD', K .. set, of_batch(id, 'n'), id)
      taken = taken + 1
    end
  end
  return taken
end
"""

# 1: worker, then what it knows that it has; how much it gives back of what it does not.
GIVE_BACK: Final = (
    FREES
    + _TAKE
    + """
local but = {}
for i = 2, #ARGV do but[ARGV[i]] = true end
return take_from(ARGV[1], but)
"""
)

# 1: worker, 2: ms that it is believed; how much was taken from others, and how many there are.
BEAT: Final = (
    FREES
    + _TAKE
    + """
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
call('ZADD', K .. 'workers', now + ARGV[2], ARGV[1])
local taken = 0
for _, name in ipairs(call('ZRANGEBYSCORE', K .. 'workers', '-inf', now)) do
  taken = taken + take_from(name, {})
  call('ZREM', K .. 'workers', name)
end
return {taken, call('ZCARD', K .. 'workers'), string.format('%.0f', now)}
"""
)

# 1: worker.
LEAVE: Final = (
    FREES
    + _TAKE
    + """
take_from(ARGV[1], {})
call('ZREM', K .. 'workers', ARGV[1])
"""
)
