"""What all scripts share: names of keys, counts, and how batches end.

Every change of the queue is one script, so that it is there as a whole or not at all; all keys have
one hash tag, so that a cluster has them in one slot. ``KEYS[1]`` is what every name begins with.

    number                  counts up: files and batches, in order of coming
    file:ID, b:ID           hashes, as `StoredFile` and `Batch`; of a batch ``t:STATUS`` since when
    kind:ID:MODEL           hash: jobs, their bytes, at_once, why
    jobs:ID:MODEL           stream, an entry LINE-1 for each line that has not ended; its group has
                            a consumer for each process, and "later" for what was put back
    later:ID:MODEL          sorted set: not before when which of these are tried again
    tries:ID:MODEL          hash: how often servers failed a line
    done:ID                 hash: lines that have ended
    ids:ID                  set: custom_ids, while the file is read
    models:ID               set
    waiting, running        hashes ID:MODEL -> jobs, of batches that were read
    unread, done, all       sorted sets of batches by number: to be read, to be written, open ones
    deadlines, ended        sorted sets of batches by time
    claimed                 hash: which process reads or writes a batch
    workers                 sorted set: processes, until when they are believed, ms of the server
    use:bytes|jobs|batches  hashes by owner
    files:..., batches:...  sorted sets by number of what owners have
    expiry, gone            files by their end; those whose bytes nobody needs
"""

from __future__ import annotations

from typing import Final

# First lines of scripts. What makes room, or ends what was begun, is done on a full server, too.
FREES: Final = "#!lua flags=allow-oom\n"
# What would begin more is refused there before it does anything; so is, by its first write, what
# has no such line.
BEGINS: Final = "#!lua\n"

SHARED: Final = """
local K = KEYS[1] .. ':'
local call = redis.call
local function use(what, owner, by)
  local left = call('HINCRBY', K .. 'use:' .. what, owner, by)
  if left == 0 then call('HDEL', K .. 'use:' .. what, owner) end
  return left
end
local function used(what, owner) return tonumber(call('HGET', K .. 'use:' .. what, owner) or 0) end
local function files_of(owner, purpose)
  return K .. 'files:' .. #owner .. ':' .. owner .. ':' .. purpose
end
local function batches_of(id, owner)
  return K .. 'batches:' .. string.match(id, '^[^_]*') .. ':' .. owner
end
local function count(key, field, by)
  if by ~= 0 and call('HINCRBY', K .. key, field, by) == 0 then call('HDEL', K .. key, field) end
end
local function of_batch(id, field) return call('HGET', K .. 'b:' .. id, field) end

-- f: id, owner, filename, purpose, size, created, expires; most < 0: as many bytes as there are.
local function add_file(f, most)
  if call('EXISTS', K .. 'file:' .. f[1]) == 1 then return nil end
  local held = use('bytes', f[2], f[5])
  if most >= 0 and held > most then
    use('bytes', f[2], -f[5])
    return {'!bytes', held}
  end
  local n = call('INCR', K .. 'number')
  call('HSET', K .. 'file:' .. f[1], 'n', n, 'owner', f[2], 'filename', f[3], 'purpose', f[4],
       'size', f[5], 'created', f[6], 'expires', f[7])
  if f[4] ~= 'background' then
    call('ZADD', files_of(f[2], ''), n, f[1])
    call('ZADD', files_of(f[2], f[4]), n, f[1])
  end
  call('ZADD', K .. 'expiry', f[7], f[1])
  return nil
end
local function file_there(id, owner)
  local found = call('HMGET', K .. 'file:' .. id, 'owner', 'deleted')
  return found[1] == owner and not found[2]
end
local function maybe_gone(id)
  local found = call('HMGET', K .. 'file:' .. id, 'deleted', 'refs')
  if found[1] and tonumber(found[2] or 0) <= 0 then call('SADD', K .. 'gone', id) end
end
local function delete_file(id, owner)
  local key = K .. 'file:' .. id
  local found = call('HMGET', key, 'purpose', 'size')
  call('HSET', key, 'deleted', 1)
  call('ZREM', files_of(owner, ''), id)
  call('ZREM', files_of(owner, found[1]), id)
  call('ZREM', K .. 'expiry', id)
  use('bytes', owner, -found[2])
  maybe_gone(id)
end

local function turn(id, status, now)
  call('HSET', K .. 'b:' .. id, 'status', status, 't:' .. status, now)
end
local function held(id, fence)
  local found = call('HMGET', K .. 'b:' .. id, 'worker', 'fence')
  return found[1] and found[2] == fence
end
local function let_go(id)
  call('HDEL', K .. 'b:' .. id, 'worker')
  call('HDEL', K .. 'claimed', id)
end
local function counts(id)
  local found = call('HMGET', K .. 'b:' .. id, 'total', 'completed', 'failed')
  return tonumber(found[1]), tonumber(found[2]), tonumber(found[3])
end
-- Where all of its jobs have ended its files may be written.
local function settle(id)
  local total, completed, failed = counts(id)
  if total == completed + failed then call('ZADD', K .. 'done', of_batch(id, 'n'), id) end
end
local function fail(id, jobs)
  if jobs > 0 then
    call('HINCRBY', K .. 'b:' .. id, 'failed', jobs)
    use('jobs', of_batch(id, 'owner'), -jobs)
  end
end
local function finish_batch(id, status, now)
  turn(id, status, now)
  for _, model in ipairs(call('SMEMBERS', K .. 'models:' .. id)) do
    local kind = id .. ':' .. model
    call('UNLINK', K .. 'jobs:' .. kind, K .. 'later:' .. kind, K .. 'tries:' .. kind,
         K .. 'kind:' .. kind)
    call('HDEL', K .. 'waiting', kind)
    call('HDEL', K .. 'running', kind)
  end
  call('UNLINK', K .. 'models:' .. id, K .. 'done:' .. id, K .. 'ids:' .. id)
  for _, set in ipairs({'unread', 'done', 'all', 'deadlines'}) do call('ZREM', K .. set, id) end
  call('ZADD', K .. 'ended', now, id)
  call('HSET', K .. 'b:' .. id, 'ended', now)
  local input = of_batch(id, 'input')
  if call('EXISTS', K .. 'file:' .. input) == 1 then
    call('HINCRBY', K .. 'file:' .. input, 'refs', -1)
    maybe_gone(input)
  end
end
local function forget_batch(id)
  local owner = of_batch(id, 'owner')
  call('ZREM', K .. 'ended', id)
  call('ZREM', batches_of(id, owner), id)
  call('DEL', K .. 'b:' .. id)
  use('batches', owner, -1)
end
-- Whether `worker` still has a line: as often delivered, and to it.
local function has(kind, line, worker, fence)
  local found = redis.pcall('XPENDING', K .. 'jobs:' .. kind, 'g', line .. '-1', line .. '-1', 1)
  if type(found) ~= 'table' or found.err or not found[1] then return false end
  return found[1][2] == worker and found[1][4] == tonumber(fence)
end
-- A line that was under way waits again; after its deadline it has ended.
local function give_up(id, kind, line, not_before)
  count('running', kind, -1)
  if of_batch(id, 'past') then
    call('XACK', K .. 'jobs:' .. kind, 'g', line .. '-1')
    call('HINCRBY', K .. 'b:' .. id, 'expired', 1)
    fail(id, 1)
    settle(id)
  else
    call('XCLAIM', K .. 'jobs:' .. kind, 'g', 'later', 0, line .. '-1', 'JUSTID')
    call('ZADD', K .. 'later:' .. kind, not_before, line)
    count('waiting', kind, 1)
  end
end
"""
