"""Scripts about files and batches. Each begins with `scripts.SHARED`."""

from __future__ import annotations

from typing import Final

from router.deferral.redis.scripts import FREES

# 1-7: a file; 8: most bytes.
ADD_FILE: Final = "return add_file(ARGV, tonumber(ARGV[8]))"

# 1: owner, 2: id; its row.
FILE: Final = """
if not file_there(ARGV[2], ARGV[1]) then return {'!file'} end
return call('HMGET', K .. 'file:' .. ARGV[2], 'owner', 'filename', 'purpose', 'size', 'created',
            'expires')
"""

# 1: owner, 2: after, 3: purpose, 4: "1" for the oldest first, 5: most; rows with their ids.
FILES: Final = """
local from = ARGV[4] == '1' and '-inf' or '+inf'
if ARGV[2] ~= '' then
  if not file_there(ARGV[2], ARGV[1]) then return {'!file'} end
  from = '(' .. call('HGET', K .. 'file:' .. ARGV[2], 'n')
end
local ids
local key = files_of(ARGV[1], ARGV[3])
if ARGV[4] == '1' then
  ids = call('ZRANGEBYSCORE', key, from, '+inf', 'LIMIT', 0, ARGV[5])
else
  ids = call('ZREVRANGEBYSCORE', key, from, '-inf', 'LIMIT', 0, ARGV[5])
end
local found = {}
for i, id in ipairs(ids) do
  found[i] = call('HMGET', K .. 'file:' .. id, 'owner', 'filename', 'purpose', 'size', 'created',
                  'expires')
  table.insert(found[i], 1, id)
end
return found
"""

# 1: owner, 2: id.
DELETE_FILE: Final = (
    FREES
    + """
if not file_there(ARGV[2], ARGV[1]) then return {'!file'} end
delete_file(ARGV[2], ARGV[1])
"""
)

# 1: id, 2: owner, 3: status, 4: terms, 5: its file, 6: created, 7: expires, 8: most jobs, 9: most
# batches, 10: most bytes; then, where it brings it, its file.
ADD_BATCH: Final = """
local id, owner, input = ARGV[1], ARGV[2], ARGV[5]
if call('EXISTS', K .. 'b:' .. id) == 1 then return nil end
local jobs = used('jobs', owner)
if jobs >= tonumber(ARGV[8]) then return {'!jobs', jobs} end
local batches = used('batches', owner)
if batches >= tonumber(ARGV[9]) then return {'!batches', batches} end
if ARGV[11] then
  local refused = add_file({unpack(ARGV, 11, 17)}, tonumber(ARGV[10]))
  if refused then return refused end
elseif not file_there(input, owner) then
  return {'!file'}
end
local n = call('INCR', K .. 'number')
call('HSET', K .. 'b:' .. id, 'n', n, 'owner', owner, 'status', ARGV[3], 'terms', ARGV[4],
     'input', input, 'created', ARGV[6], 'expires', ARGV[7], 'total', 0, 'completed', 0,
     'failed', 0, 'read', 0, 'fence', 0)
use('batches', owner, 1)
call('HINCRBY', K .. 'file:' .. input, 'refs', 1)
call('ZADD', batches_of(id, owner), n, id)
call('ZADD', K .. 'unread', n, id)
call('ZADD', K .. 'all', n, id)
"""

# 1: owner, 2: id; its row.
BATCH: Final = """
if of_batch(ARGV[2], 'owner') ~= ARGV[1] then return {'!batch'} end
return call('HGETALL', K .. 'b:' .. ARGV[2])
"""

# 1: owner, 2: after, 3: most, 4: "1" for the oldest first, 5: family; ids and rows by turns.
BATCHES: Final = """
local up = ARGV[4] == '1'
local from = up and '-inf' or '+inf'
if ARGV[2] ~= '' then
  if of_batch(ARGV[2], 'owner') ~= ARGV[1] then return {'!batch'} end
  from = '(' .. of_batch(ARGV[2], 'n')
end
local found, key = {}, batches_of(ARGV[5], ARGV[1])
for _, id in ipairs(call(up and 'ZRANGEBYSCORE' or 'ZREVRANGEBYSCORE', key, from,
                         up and '+inf' or '-inf', 'LIMIT', 0, ARGV[3])) do
  found[#found + 1] = {id, call('HGETALL', K .. 'b:' .. id)}
end
return found
"""

# 1: owner, 2: id.
DELETE_BATCH: Final = (
    FREES
    + """
if of_batch(ARGV[2], 'owner') ~= ARGV[1] then return {'!batch'} end
if call('HEXISTS', K .. 'b:' .. ARGV[2], 'ended') == 0 then return {'!open'} end
forget_batch(ARGV[2])
"""
)

# 1: owner, 2: id, 3: now, 4: the code of what has not ended; its row.
CANCEL: Final = (
    FREES
    + """
local id = ARGV[2]
if of_batch(id, 'owner') ~= ARGV[1] then return {'!batch'} end
local status = of_batch(id, 'status')
if call('HEXISTS', K .. 'b:' .. id, 'ended') == 1 or status == 'finalizing' then
  return {'!ended', status}
end
if status ~= 'cancelling' then
  let_go(id)
  call('HINCRBY', K .. 'b:' .. id, 'fence', 1)
  turn(id, 'cancelling', ARGV[3])
  call('HSET', K .. 'b:' .. id, 'code', ARGV[4])
  for _, model in ipairs(call('SMEMBERS', K .. 'models:' .. id)) do
    local kind = id .. ':' .. model
    call('HDEL', K .. 'waiting', kind)
    call('HDEL', K .. 'running', kind)
    -- With it goes whose the lines were.
    call('XGROUP', 'DESTROY', K .. 'jobs:' .. kind, 'g')
  end
  call('ZREM', K .. 'unread', id)
  call('ZREM', K .. 'deadlines', id)
  local total, completed, failed = counts(id)
  fail(id, total - completed - failed)
  call('HINCRBY', K .. 'b:' .. id, 'cancelled', total - completed - failed)
  settle(id)
end
return call('HGETALL', K .. 'b:' .. id)
"""
)

# 1: "unread" or "done", 2: worker, 3: now; id and row.
CLAIM_BATCH: Final = (
    FREES
    + """
local id = call('ZRANGE', K .. ARGV[1], 0, 0)[1]
if not id then return false end
call('ZREM', K .. ARGV[1], id)
call('HINCRBY', K .. 'b:' .. id, 'fence', 1)
call('HSET', K .. 'b:' .. id, 'worker', ARGV[2])
call('HSET', K .. 'claimed', id, ARGV[2])
if of_batch(id, 'status') == 'in_progress' then
  if ARGV[1] == 'done' then turn(id, 'finalizing', ARGV[3]) end
end
return {id, call('HGETALL', K .. 'b:' .. id)}
"""
)

# 1: id, 2: fence.
RELEASE_BATCH: Final = (
    FREES
    + """
local id = ARGV[1]
if not held(id, ARGV[2]) then return nil end
let_go(id)
local set = of_batch(id, 'status') == 'validating' and 'unread' or 'done'
call('ZADD', K .. set, of_batch(id, 'n'), id)
"""
)

# 1: id, 2: fence, 3: now, 4: errors, 5: "1" where it fails, then model and at_once by turns.
END_READING: Final = (
    FREES
    + """
local id, now = ARGV[1], ARGV[3]
if not held(id, ARGV[2]) then return 0 end
if ARGV[4] ~= '' then call('HSET', K .. 'b:' .. id, 'errors', ARGV[4]) end
local total, _, failed = counts(id)
let_go(id)
if ARGV[5] == '1' or total == failed then
  fail(id, total - failed)
  finish_batch(id, 'failed', now)
  return 1
end
for i = 6, #ARGV, 2 do
  local kind = K .. 'kind:' .. id .. ':' .. ARGV[i]
  if call('EXISTS', kind) == 1 then call('HSET', kind, 'at_once', ARGV[i + 1]) end
end
for _, model in ipairs(call('SMEMBERS', K .. 'models:' .. id)) do
  local kind = id .. ':' .. model
  call('HSET', K .. 'waiting', kind, call('HGET', K .. 'kind:' .. kind, 'jobs'))
end
call('UNLINK', K .. 'ids:' .. id)
call('ZADD', K .. 'deadlines', of_batch(id, 'expires'), id)
turn(id, 'in_progress', now)
return 1
"""
)

# 1: id, 2: fence, 3: now, 4: id of its output or "", 5: of its error file, then these.
COMPLETE: Final = (
    FREES
    + """
local id = ARGV[1]
if not held(id, ARGV[2]) then return 0 end
for i = 6, #ARGV, 7 do add_file({unpack(ARGV, i, i + 6)}, -1) end
call('HSET', K .. 'b:' .. id, 'output', ARGV[4], 'error', ARGV[5])
let_go(id)
local status = 'completed'
if call('HEXISTS', K .. 'b:' .. id, 't:cancelling') == 1 then status = 'cancelled'
elseif of_batch(id, 'expired') then status = 'expired' end
finish_batch(id, status, ARGV[3])
return 1
"""
)

# 1: now, 2: how long what has ended is kept, s, 3: most of each. Of two clocks the later is not
# believed.
PURGE: Final = (
    FREES
    + """
local now = math.min(ARGV[1], call('TIME')[1])
for _, id in ipairs(call('ZRANGEBYSCORE', K .. 'ended', '-inf', now - ARGV[2], 'LIMIT', 0,
                         ARGV[3])) do
  forget_batch(id)
end
for _, id in ipairs(call('ZRANGEBYSCORE', K .. 'expiry', '-inf', now, 'LIMIT', 0, ARGV[3])) do
  delete_file(id, call('HGET', K .. 'file:' .. id, 'owner'))
end
-- What a script that ended in the midst, or a hand in the keys, left with nobody.
for _, id in ipairs(call('ZRANDMEMBER', K .. 'all', ARGV[3])) do
  local status = call('HEXISTS', K .. 'claimed', id) == 0 and of_batch(id, 'status')
  if status == 'validating' then call('ZADD', K .. 'unread', of_batch(id, 'n'), id)
  elseif status then settle(id) end
end
"""
)

# 1: most.
GONE: Final = "return call('SRANDMEMBER', K .. 'gone', ARGV[1])"

# All: ids.
FORGET_FILES: Final = (
    FREES
    + """
for _, id in ipairs(ARGV) do
  if call('HEXISTS', K .. 'file:' .. id, 'deleted') == 1 then
    call('DEL', K .. 'file:' .. id)
    call('SREM', K .. 'gone', id)
  end
end
"""
)

# All: ids; those that there are.
KNOWN_FILES: Final = """
local found = {}
for _, id in ipairs(ARGV) do
  if call('EXISTS', K .. 'file:' .. id) == 1 then found[#found + 1] = id end
end
return found
"""

# 1: the name of a folder of files; that of the queue's, whether the server keeps what it has (""
# where it does not say), and what it does when it is full.
FOLDER: Final = (
    FREES
    + """
call('SETNX', K .. 'folder', ARGV[1])
local function told(section, pattern)
  local info = redis.pcall('INFO', section)
  return type(info) == 'string' and string.match(info, pattern) or ''
end
return {call('GET', K .. 'folder'), told('persistence', 'aof_enabled:(%d)'),
        told('memory', 'maxmemory_policy:([%w-]+)')}
"""
)

# Ids of batches that have not ended, the oldest first, and with "1" of those that have.
IDS: Final = """
local found = call('ZRANGE', K .. 'all', 0, -1)
if ARGV[1] == '1' then
  for _, id in ipairs(call('ZRANGE', K .. 'ended', 0, -1)) do found[#found + 1] = id end
end
return found
"""

# All: ids; of each that there is its id and row, and of each model: it, waiting, running, why.
SEEN: Final = """
local found = {}
for _, id in ipairs(ARGV) do
  local row = call('HGETALL', K .. 'b:' .. id)
  if #row > 0 then
    local kinds = {}
    for _, model in ipairs(call('SMEMBERS', K .. 'models:' .. id)) do
      local kind = id .. ':' .. model
      kinds[#kinds + 1] = {model, call('HGET', K .. 'waiting', kind) or '0',
                           call('HGET', K .. 'running', kind) or '0',
                           call('HGET', K .. 'kind:' .. kind, 'why') or ''}
    end
    found[#found + 1] = {id, row, kinds}
  end
end
return found
"""
