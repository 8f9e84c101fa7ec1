-- SPDX-License-Identifier: GPL-3.0-or-later
-- A maintenance holds the nodes that it takes out of service, and a person may end the lease of a run that is dead.

INSERT INTO diskengine.privilege (purpose, privilege, object) VALUES
    ('operator', 'SELECT', 'v_lease'),
    ('operator', 'EXECUTE', 'take_leases(text[], text, integer, boolean)'),
    ('operator', 'EXECUTE', 'renew_leases(text[], bigint)'),
    ('operator', 'EXECUTE', 'release_leases(text[], bigint)');
