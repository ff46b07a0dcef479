-- Tells of a stream what XINFO STREAM does, without its first and its last entry: those may be huge.
-- KEYS: input
-- Answers entries added in all, entries held, the id of the oldest held (or nil) and the newest id
-- there ever was; nothing where there is no such key.
local found = redis.pcall('XINFO', 'STREAM', KEYS[1])
if found.err then
  if string.find(found.err, 'no such key') then return {} end
  return found
end
local facts = {}
for i = 1, #found, 2 do facts[found[i]] = found[i + 1] end
local first = facts['first-entry']
return {facts['entries-added'], facts['length'], first and first[1], facts['last-generated-id']}
