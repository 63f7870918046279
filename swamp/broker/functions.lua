#!lua name=swamp1
-- The server's side of Swamp, protocol 1. Loaded by the orchestrator only; commands inside a function are checked
-- against the caller's own rights. Every function takes one msgpack map in ARGV[1]; docs/protocol.md has the fields.
--
-- Keys are built here and not declared: declaring a key asks for the right to write it, which a worker does not have
-- on job hashes. Swamp does not run on a cluster, so nothing else needs the declaration.
--
-- Every item has a status of its own (redis.pcall), so that one poisoned item harms no other.

local KEPT = 1000            -- finished and failed jobs kept per target, for RQ's tools
local FAR = 31536000         -- seconds: RQ's tools move what has "expired" when they look; nothing of ours does
local STEP = 0.000001        -- seconds: what is recorded together keeps its order
local MARGIN = 10            -- seconds that a worker's hash outlives its name in the lists of workers

local function key(machine, name) return 'swamp:m:' .. machine .. ':' .. name end

-- 1 for done, 0 for not done, text for an error
local function status(reply)
  if type(reply) == 'table' and reply.err then return reply.err end
  if reply == false or reply == 0 then return 0 end
  return 1
end

-- For keys that others may write: one of the wrong kind is removed, and the command done once more, so that whoever
-- spoils a key harms nobody but those who live by that key.
local function sound(command, name, ...)
  local reply = redis.pcall(command, name, ...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) or string.find(reply.err, 'hash value is not', 1, true) then
      redis.call('DEL', name)
    end
    return redis.call(command, name, ...)
  end
  return reply
end

-- ---------------------------------------------------------------- called by workers

-- machine   who calls
-- target    its target
-- say       {sealed event, ...}: first, because what a step printed comes before its end
-- finish    {{dispatch, sealed result, sealed event}, ...}: the result into the hash, the event onto the stream
-- begin     {{dispatch, sealed "started"}, ...}: is the claim still ours? then it is given up and "started" is said.
--           Behind the first that is not, nothing is tried: the caller says "dropped" under its number, then goes on.
--           Only one of begin and take_back can remove a claim.
-- claim     how many more to take from the queue
-- release   {dispatch, ...}: claims that are given up without beginning
-- newest    1: the sealed dispatch of the newest claim is wanted, which a BLMOVE just before this call has made
-- ring      1 to call the orchestrator; for what has time, its sweep is soon enough
-- returns   {finish statuses, begin statuses (of those that were tried), say statuses,
--           {dispatch, sealed dispatch or "", ...}}
local function exchange(_, args)
  local request = cmsgpack.unpack(args[1])
  local machine = request.machine
  local up, claimed = key(machine, 'up'), key(machine, 'claimed')
  local finished, begun, said, work = {}, {}, {}, {}

  for i, message in ipairs(request.say) do
    said[i] = status(redis.pcall('XADD', up, '*', 'm', message))
  end
  for i, item in ipairs(request.finish) do
    local reply = redis.pcall('HSET', key(machine, 'results'), item[1], item[2])
    if type(reply) ~= 'table' then
      reply = redis.pcall('XADD', up, '*', 'm', item[3], 'r', item[1])
    end
    finished[i] = (type(reply) == 'table' and reply.err) and reply.err or 1
  end
  for i, item in ipairs(request.begin) do
    local removed = redis.pcall('LREM', claimed, 1, item[1])
    begun[i] = status(removed)
    if begun[i] == 1 then
      local reply = redis.pcall('XADD', up, '*', 'm', item[2])
      if type(reply) == 'table' and reply.err then begun[i] = reply.err end
    end
    if begun[i] ~= 1 then break end
  end
  for _, id in ipairs(request.release or {}) do
    redis.pcall('LREM', claimed, 1, id)
  end
  local function read(id)
    local sealed = redis.pcall('HGET', 'rq:job:' .. id, 'swamp')
    work[#work + 1] = id
    work[#work + 1] = type(sealed) == 'string' and sealed or ''
  end
  if request.newest == 1 then
    local id = redis.pcall('LMOVE', claimed, claimed, 'RIGHT', 'RIGHT')
    if type(id) == 'string' then read(id) end
  end
  for _ = 1, request.claim do
    local id = redis.pcall('LMOVE', 'rq:queue:' .. request.target, claimed, 'LEFT', 'RIGHT')
    if type(id) ~= 'string' then break end
    read(id)
  end
  if request.ring == 1 then redis.call('PUBLISH', 'swamp:bell', '') end
  return {finished, begun, said, work}
end

-- ---------------------------------------------------------------- called by the orchestrator

-- owner, repository, marker    who uses this server from now on
-- own       1: nobody else can have it, whatever it says
-- returns   1, or the repository of another owner
local function prepare(_, args)
  local request = cmsgpack.unpack(args[1])
  local owner = sound('HGET', 'swamp:repo', 'owner')
  if owner and owner ~= request.owner and request.own ~= 1 then
    return sound('HGET', 'swamp:repo', 'repository') or ''
  end
  redis.call('HSET', 'swamp:repo', 'owner', request.owner, 'repository', request.repository, 'marker', request.marker)
  return 1
end

-- machines  {machine, ...}
-- count     messages per machine at most
-- bytes     of all machines at most; what goes over it is still returned, nothing behind it
-- marker    what swamp:repo must hold; something else means that this Redis is not the one that was prepared
-- next      what it holds from now on, or empty: an older copy of a server holds an older marker
-- returns   {{machine, {claimed dispatch, ...}, {stream id, message, dispatch or "", sealed result or ""} ...}, ...}; machines without
--           messages are left out. What is not trimmed yet comes again.
local function collect(_, args)
  local request = cmsgpack.unpack(args[1])
  local found, bytes = {}, 0
  if redis.call('HGET', 'swamp:repo', 'marker') ~= request.marker then
    return redis.error_reply('RESET this server was emptied or replaced')
  end
  if request.next ~= '' then redis.call('HSET', 'swamp:repo', 'marker', request.next) end
  for _, machine in ipairs(request.machines) do
    local entries = sound('XRANGE', key(machine, 'up'), '-', '+', 'COUNT', request.count)
    if #entries > 0 then
      local messages = {machine, sound('LRANGE', key(machine, 'claimed'), 0, 999)}
      for _, entry in ipairs(entries) do
        local fields, message, dispatch, result = entry[2], '', '', ''
        for i = 1, #fields, 2 do
          if fields[i] == 'm' then message = fields[i + 1] end
          if fields[i] == 'r' then dispatch = fields[i + 1] end
        end
        if dispatch ~= '' then
          result = sound('HGET', key(machine, 'results'), dispatch) or ''
        end
        messages[#messages + 1] = {entry[1], message, dispatch, result}
        bytes = bytes + #message + #result
        if bytes > request.bytes then break end
      end
      found[#found + 1] = messages
      if bytes > request.bytes then break end
    end
  end
  return found
end

-- machines  {{machine, newest stream id applied, {dispatch, ...}}, ...}: what is on disk is freed. Runs even when
--           memory is short, and alone, so that memory comes back first.
local function free(_, args)
  local request = cmsgpack.unpack(args[1])
  for _, item in ipairs(request.machines) do
    local machine, last, dispatches = item[1], item[2], item[3]
    for i = 1, #dispatches, 1000 do
      sound('HDEL', key(machine, 'results'), unpack(dispatches, i, math.min(i + 999, #dispatches)))
    end
    if last ~= '' then
      local ms, seq = string.match(last, '(%d+)-(%d+)')
      sound('XTRIM', key(machine, 'up'), 'MINID', ms .. '-' .. string.format('%.0f', tonumber(seq) + 1))
    end
  end
  return 1
end

-- messages  {{machine, sealed message}, ...}, in order. They are small and few, and what workers need to let go of
--           what they hold, so they are said even when memory is short.
local function tell(_, args)
  local request = cmsgpack.unpack(args[1])
  for _, message in ipairs(request.messages) do
    sound('XADD', key(message[1], 'down'), 'MAXLEN', '~', '1000', '*', 'm', message[2])
  end
  return #request.messages
end

-- target    whose queue
-- front     1: before everything that waits (what was taken back), in the given order
-- only_shown 1: the jobs are written for RQ's tools and not queued (what runs, and was deleted by a tool)
-- now       ISO time
-- jobs      {{dispatch, RQ's call tuple, description, sealed dispatch}, ...}
local function push(_, args)
  local request = cmsgpack.unpack(args[1])
  local queue = 'rq:queue:' .. request.target
  local first, last, step = 1, #request.jobs, 1
  if request.front == 1 then first, last, step = #request.jobs, 1, -1 end
  sound('SADD', 'rq:queues', queue)
  for i = first, last, step do
    local job = request.jobs[i]
    sound('HSET', 'rq:job:' .. job[1],
      'created_at', request.now, 'enqueued_at', request.now, 'data', job[2], 'description', job[3],
      'swamp', job[4], 'origin', request.target, 'status', 'queued', 'timeout', '-1', 'started_at', '',
      'ended_at', '', 'last_heartbeat', '', 'worker_name', '', 'group_id', '', 'success_callback_name', '',
      'failure_callback_name', '', 'stopped_callback_name', '')
    if request.only_shown ~= 1 then sound(request.front == 1 and 'LPUSH' or 'RPUSH', queue, job[1]) end
  end
  return #request.jobs
end

-- What RQ's tools may have changed.
--
-- targets   {{target, {machine, ...}, {{dispatch, execution}, ...}}, ...}: its machines, and what runs there
-- returns   {{key of a queue that tools see, ...},
--            {target, {queued dispatch, ...}, {claimed dispatch, ...}, {state, ...}}, ...}: the states of what runs, in
--           order; '' where the job is gone, 'unlisted' where it is not listed as running any more
local function look(_, args)
  local request = cmsgpack.unpack(args[1])
  local found = {sound('SMEMBERS', 'rq:queues')}
  for i, item in ipairs(request.targets) do
    local target, claimed, states = item[1], {}, {}
    for _, machine in ipairs(item[2]) do
      for _, id in ipairs(sound('LRANGE', key(machine, 'claimed'), 0, -1)) do claimed[#claimed + 1] = id end
    end
    for n, running in ipairs(item[3]) do
      states[n] = sound('HGET', 'rq:job:' .. running[1], 'status') or ''
      if states[n] ~= '' and not sound('ZSCORE', 'rq:wip:' .. target, running[1] .. ':' .. running[2])
        and states[n] ~= 'canceled' then
        states[n] = 'unlisted'
      end
    end
    found[i + 1] = {target, sound('LRANGE', 'rq:queue:' .. target, 0, -1), claimed, states}
  end
  return found
end

-- target    one that nobody serves any more: everything that RQ's tools know of it is deleted
local function forget_target(_, args)
  local request = cmsgpack.unpack(args[1])
  for _, kind in ipairs({'wip', 'finished', 'failed', 'canceled'}) do
    local registry = 'rq:' .. kind .. ':' .. request.target
    for _, member in ipairs(sound('ZRANGE', registry, 0, -1)) do
      local id = string.match(member, '^[^:]*')
      sound('DEL', 'rq:job:' .. id, 'rq:results:' .. id)
    end
    sound('DEL', registry)
  end
  sound('DEL', 'rq:queue:' .. request.target)
  sound('SREM', 'rq:queues', 'rq:queue:' .. request.target)
  return 1
end

-- machine   whose claims
-- only      {dispatch, ...}, or nil for all
-- returns   the dispatches that were claimed and are not any more
local function take_back(_, args)
  local request = cmsgpack.unpack(args[1])
  local claimed = key(request.machine, 'claimed')
  if not request.only then
    local all = sound('LRANGE', claimed, 0, -1)
    redis.call('DEL', claimed)
    return all
  end
  local taken = {}
  for _, id in ipairs(request.only) do
    if sound('LREM', claimed, 1, id) == 1 then taken[#taken + 1] = id end
  end
  return taken
end

-- target, dispatches, machines    what waits or is claimed, and is not wanted any more
local function withdraw(_, args)
  local request = cmsgpack.unpack(args[1])
  for _, id in ipairs(request.dispatches) do
    if sound('LREM', 'rq:queue:' .. request.target, 1, id) == 0 then
      for _, machine in ipairs(request.machines) do
        sound('LREM', key(machine, 'claimed'), 1, id)
      end
    end
  end
  return 1
end

-- RQ's bookkeeping. Everything here can be made again and none of it decides anything.
--
-- now, at   the present: ISO text, seconds
-- records   in order:
--   {"started", target, dispatch, execution, worker, started at}
--   {"ended", target, dispatch, execution, worker, started at or "", ended at, "finished" | "failed" | "canceled",
--    why it failed as RQ packs it, or "", seconds that it ran, 1 if it was "started" in an earlier call, else 0}
--   {"working", worker, dispatch}: behind what has "ended" there; what it works on need not be "started"
--   {"worker", name, target, seconds to live, {field, value, ...}}: without fields for one that is known already;
--    with them, it runs nothing but what is "started" behind this
--   {"left", name, target}
local function mirror(_, args)
  local request = cmsgpack.unpack(args[1])
  local now, at = request.now, request.at

  local function started(target, id, execution, worker, started_at)
    -- What else is written of a job that a tool has deleted would be a job that no tool can read.
    if sound('EXISTS', 'rq:job:' .. id) == 0 then return end
    local running, current = id .. ':' .. execution, 'rq:worker:' .. worker
    -- Canceled in a tool just now: the look will find it so, and have it ended.
    if sound('HGET', 'rq:job:' .. id, 'status') ~= 'canceled' then sound('HSET', 'rq:job:' .. id, 'status', 'started') end
    sound('HSET', 'rq:job:' .. id, 'started_at', started_at, 'last_heartbeat', now, 'worker_name', worker)
    sound('ZADD', 'rq:wip:' .. target, at + FAR, running)
    sound('ZADD', 'rq:executions:' .. id, at + FAR, execution)
    local seconds = string.format('%.3f', at)
    sound('HSET', 'rq:execution:' .. running, 'id', execution, 'job_id', id, 'created_at', seconds,
      'last_heartbeat', seconds, 'worker_name', worker)
    -- Who is not shown has no hash that would go away: he may have left, or not have joined again yet.
    if sound('EXISTS', current) == 1 then
      sound('SADD', current .. ':executions', running)
      sound('EXPIRE', current .. ':executions', math.max(1, sound('TTL', current)))
      sound('HSET', current, 'current_job', id, 'state', 'busy')
    end
  end

  -- What ended together goes into each registry at once, and into the hash of each worker.
  local registries, workers = {}, {}

  local function ended(order, target, id, execution, worker, started_at, ended_at, state, failure, seconds, listed)
    local running = id .. ':' .. execution
    if listed == 1 then
      sound('ZREM', 'rq:wip:' .. target, running)
      sound('DEL', 'rq:executions:' .. id, 'rq:execution:' .. running)
    end
    if sound('EXISTS', 'rq:job:' .. id) == 1 then
      sound('HDEL', 'rq:job:' .. id, 'swamp')
      local fields = {'status', state, 'ended_at', ended_at, 'worker_name', worker}
      if started_at ~= '' then fields[7], fields[8] = 'started_at', started_at end
      sound('HSET', 'rq:job:' .. id, unpack(fields))
      if state == 'finished' then
        sound('XADD', 'rq:results:' .. id, '*', 'type', '1', 'worker_name', worker, 'execution_id', execution)
      elseif state == 'failed' then
        sound('XADD', 'rq:results:' .. id, '*', 'type', '2', 'exc_string', failure, 'worker_name', worker,
          'execution_id', execution)
      end
      local registry = 'rq:' .. state .. ':' .. target
      local members = registries[registry] or {}
      registries[registry] = members
      members[#members + 1] = at + FAR + order * STEP
      members[#members + 1] = id
    end
    if worker ~= '' then
      local sums = workers[worker] or {finished = 0, failed = 0, canceled = 0, seconds = 0, executions = {}}
      workers[worker] = sums
      sums[state] = sums[state] + 1
      sums.seconds = sums.seconds + tonumber(seconds)
      if listed == 1 then sums.executions[#sums.executions + 1] = running end
    end
  end

  local function keep(registry, members)
    for i = 1, #members, 1000 do
      sound('ZADD', registry, unpack(members, i, math.min(i + 999, #members)))
    end
    local excess = sound('ZCARD', registry) - KEPT
    if excess <= 0 then return end
    local oldest = sound('ZPOPMIN', registry, excess)
    for i = 1, #oldest, 2 do sound('DEL', 'rq:job:' .. oldest[i], 'rq:results:' .. oldest[i]) end
  end

  local function worked(worker, sums)
    local current = 'rq:worker:' .. worker
    if sound('EXISTS', current) == 0 then return end
    for i = 1, #sums.executions, 1000 do
      sound('SREM', current .. ':executions', unpack(sums.executions, i, math.min(i + 999, #sums.executions)))
    end
    if sums.finished > 0 then sound('HINCRBY', current, 'successful_job_count', sums.finished) end
    if sums.failed > 0 then sound('HINCRBY', current, 'failed_job_count', sums.failed) end
    sound('HINCRBYFLOAT', current, 'total_working_time', string.format('%.3f', sums.seconds))
    local other = sound('SRANDMEMBER', current .. ':executions')
    if other then
      sound('HSET', current, 'current_job', string.match(other, '^(.*):'))
    else
      sound('HDEL', current, 'current_job')
      sound('HSET', current, 'state', 'idle')
    end
  end

  -- A reader without the right to write stumbles over the name of a worker whose hash is gone, because RQ's classes
  -- then tidy up. So names go before what they name: with every showing, and all together when nobody shows any more.
  local function tidy(names, ttl)
    for _, name in ipairs(sound('SMEMBERS', names)) do
      if sound('EXISTS', name) == 0 then sound('SREM', names, name) end
    end
    sound('EXPIRE', names, ttl)
  end

  local shown, working = {}, {}
  for order, r in ipairs(request.records) do
    if r[1] == 'started' then
      started(r[2], r[3], r[4], r[5], r[6])
    elseif r[1] == 'ended' then
      ended(order, r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11])
    elseif r[1] == 'working' then
      working[r[2]] = r[3]
    elseif r[1] == 'worker' then
      local name, target, fields = 'rq:worker:' .. r[2], r[3], r[5]
      sound('HSET', name, 'last_heartbeat', now, 'queues', target)
      -- What it runs is told behind this. What ended while nobody could tell would be listed for ever.
      if #fields > 0 then
        sound('DEL', name .. ':executions')
        sound('HDEL', name, 'current_job')
      end
      for i = 1, #fields, 2 do
        sound(fields[i] == 'birth' and 'HSETNX' or 'HSET', name, fields[i], fields[i + 1])
      end
      sound('EXPIRE', name, r[4] + MARGIN)
      sound('EXPIRE', name .. ':executions', r[4] + MARGIN)
      sound('SADD', 'rq:queues', 'rq:queue:' .. target)
      sound('SADD', 'rq:workers', name)
      sound('SADD', 'rq:workers:' .. target, name)
      shown['rq:workers'], shown['rq:workers:' .. target] = r[4], r[4]
    elseif r[1] == 'left' then
      local name = 'rq:worker:' .. r[2]
      sound('SREM', 'rq:workers', name)
      sound('SREM', 'rq:workers:' .. r[3], name)
      sound('DEL', name, name .. ':executions')
    end
  end
  for registry, members in pairs(registries) do keep(registry, members) end
  for worker, sums in pairs(workers) do worked(worker, sums) end
  for worker, id in pairs(working) do
    if sound('EXISTS', 'rq:worker:' .. worker) == 1 then
      sound('HSET', 'rq:worker:' .. worker, 'current_job', id, 'state', 'busy')
    end
  end
  for names, ttl in pairs(shown) do tidy(names, ttl) end
  return #request.records
end

-- When memory is short, the orchestrator goes on with all that makes room. What would fill it is refused: what workers
-- say (they keep it), and new work.
local ALWAYS = {'allow-oom'}
redis.register_function('swamp1_exchange', exchange)
redis.register_function('swamp1_push', push)
redis.register_function('swamp1_look', look)
redis.register_function{function_name = 'swamp1_forget_target', callback = forget_target, flags = {'allow-oom'}}
redis.register_function{function_name = 'swamp1_prepare', callback = prepare, flags = ALWAYS}
redis.register_function{function_name = 'swamp1_collect', callback = collect, flags = ALWAYS}
redis.register_function{function_name = 'swamp1_free', callback = free, flags = ALWAYS}
redis.register_function{function_name = 'swamp1_tell', callback = tell, flags = ALWAYS}
redis.register_function{function_name = 'swamp1_take_back', callback = take_back, flags = ALWAYS}
redis.register_function{function_name = 'swamp1_withdraw', callback = withdraw, flags = ALWAYS}
redis.register_function{function_name = 'swamp1_mirror', callback = mirror, flags = ALWAYS}
