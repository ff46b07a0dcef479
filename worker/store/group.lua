-- Makes a fleet's consumer group where it is missing, and moves it from the name that it had before.
-- KEYS: input, offset
-- ARGV: the group's name, the name that it had before: the fleet's own
-- The group under the former name is the fleet's if it stands where the fleet does, in id and in
-- count, and nobody has ever read through it; anybody may have a group of that name.
-- Answers 'moved', 'refused' (this user may not take the former one away), 'others' (what stands
-- under the former name is not proved to be the fleet's), or 'stands'.
if redis.call('EXISTS', KEYS[1]) == 0 then return 'stands' end -- no stream, no groups
local found = {}
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local facts = {}
  for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
  found[facts.name] = facts
end
local stands = redis.call('GET', KEYS[2]) or ''
local offset, entries = string.match(stands, '^(%S+) (%d+)$')
local before = found[ARGV[2]]
if not found[ARGV[1]] then
  redis.call(
    'XGROUP', 'CREATE', KEYS[1], ARGV[1], offset or string.match(stands, '^%S*'),
    'ENTRIESREAD', entries or -1)
elseif before then
  return 'others'
end
if not before then return 'stands' end
local ours = offset == before['last-delivered-id'] and before['entries-read']
  and tonumber(entries) == before['entries-read'] and before.consumers == 0 and before.pending == 0
if not ours then return 'others' end
if not redis.acl_check_cmd('XGROUP', 'DESTROY', KEYS[1], ARGV[2]) then return 'refused' end
redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[2])
return 'moved'
