--
-- PostgreSQL database dump
--


-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

--
-- Name: job_harness_audit; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.job_harness_audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    writer text DEFAULT current_setting('application_name'::text) NOT NULL,
    job text NOT NULL,
    before jsonb,
    after jsonb
)
PARTITION BY RANGE (at);


--
-- Name: TABLE job_harness_audit; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.job_harness_audit IS '{"jobs": "pg-boss", "table": "pgboss.job", "columns": {"id": "job.id", "status": "job.state", "tool": "job.name", "priority": "job.priority", "attempts": "CASE WHEN job.started_on IS NULL THEN 0 ELSE job.retry_count + 1 END", "max_attempts": "job.retry_limit + 1", "created_at": "job.created_on", "start_after": "job.start_after", "started_at": "job.started_on", "lease_until": "CASE WHEN job.state = ''active'' THEN LEAST(job.started_on + make_interval(secs => job.expire_seconds), COALESCE((to_jsonb(job) ->> ''heartbeat_on'')::timestamptz, job.started_on) + make_interval(secs => (to_jsonb(job) ->> ''heartbeat_seconds'')::int)) END", "completed_at": "job.completed_on", "output": "CASE WHEN job.state IN (''completed'', ''failed'') THEN job.output END"}, "status": {"created": "PENDING", "retry": "PENDING", "active": "PROCESSING", "completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}, "deletes": false, "time_zone": null}';


SET default_table_access_method = heap;

--
-- Name: job_harness_audit_20261201; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.job_harness_audit_20261201 (
    id bigint CONSTRAINT job_harness_audit_id_not_null NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT job_harness_audit_at_not_null NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() CONSTRAINT job_harness_audit_xid_not_null NOT NULL,
    writer text DEFAULT current_setting('application_name'::text) CONSTRAINT job_harness_audit_writer_not_null NOT NULL,
    job text CONSTRAINT job_harness_audit_job_not_null NOT NULL,
    before jsonb,
    after jsonb
);


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.job_harness_audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.job_harness_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: job_harness_audit_20261201; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.job_harness_audit ATTACH PARTITION public.job_harness_audit_20261201 FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2026-12-02 00:00:00+00');


--
-- Data for Name: job_harness_audit_20261201; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.job_harness_audit_20261201 (id, at, xid, writer, job, before, after) FROM stdin;
1	2026-12-01 03:30:53.442447+00	1771	sender	f80a1630-956a-4dd6-b660-872c5b24d305	\N	{"id": "f80a1630-956a-4dd6-b660-872c5b24d305", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T03:30:53.434355+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:30:53.434355+00:00", "completed_at": null, "max_attempts": 4}
2	2026-12-01 03:30:53.470568+00	1772	sender	36fd7d63-3da3-4058-aad9-e09eb1c3943b	\N	{"id": "36fd7d63-3da3-4058-aad9-e09eb1c3943b", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T03:30:53.46978+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:30:53.46978+00:00", "completed_at": null, "max_attempts": 4}
3	2026-12-01 03:30:53.484913+00	1773	sender	bf724f74-8abb-40c4-a769-e8cdae988ec7	\N	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:30:53.474994+00:00", "completed_at": null, "max_attempts": 4}
4	2026-12-01 03:30:53.946722+00	1779	worker-1	f80a1630-956a-4dd6-b660-872c5b24d305	{"id": "f80a1630-956a-4dd6-b660-872c5b24d305", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T03:30:53.434355+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:30:53.434355+00:00", "completed_at": null, "max_attempts": 4}	{"id": "f80a1630-956a-4dd6-b660-872c5b24d305", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.434355+00:00", "started_at": "2026-12-01T03:30:53.935637+00:00", "lease_until": "2026-12-01T03:31:01.935637+00:00", "start_after": "2026-12-01T03:30:53.434355+00:00", "completed_at": null, "max_attempts": 4}
5	2026-12-01 03:30:54.267382+00	1781	worker-2	36fd7d63-3da3-4058-aad9-e09eb1c3943b	{"id": "36fd7d63-3da3-4058-aad9-e09eb1c3943b", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T03:30:53.46978+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:30:53.46978+00:00", "completed_at": null, "max_attempts": 4}	{"id": "36fd7d63-3da3-4058-aad9-e09eb1c3943b", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.46978+00:00", "started_at": "2026-12-01T03:30:54.248047+00:00", "lease_until": "2026-12-01T03:31:02.248047+00:00", "start_after": "2026-12-01T03:30:53.46978+00:00", "completed_at": null, "max_attempts": 4}
6	2026-12-01 03:30:54.301552+00	1782	worker-1	f80a1630-956a-4dd6-b660-872c5b24d305	{"id": "f80a1630-956a-4dd6-b660-872c5b24d305", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.434355+00:00", "started_at": "2026-12-01T03:30:53.935637+00:00", "lease_until": "2026-12-01T03:31:01.935637+00:00", "start_after": "2026-12-01T03:30:53.434355+00:00", "completed_at": null, "max_attempts": 4}	{"id": "f80a1630-956a-4dd6-b660-872c5b24d305", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.434355+00:00", "started_at": "2026-12-01T03:30:53.935637+00:00", "lease_until": null, "start_after": "2026-12-01T03:30:53.434355+00:00", "completed_at": "2026-12-01T03:30:54.299688+00:00", "max_attempts": 4}
7	2026-12-01 03:30:54.729278+00	1784	worker-2	36fd7d63-3da3-4058-aad9-e09eb1c3943b	{"id": "36fd7d63-3da3-4058-aad9-e09eb1c3943b", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.46978+00:00", "started_at": "2026-12-01T03:30:54.248047+00:00", "lease_until": "2026-12-01T03:31:02.248047+00:00", "start_after": "2026-12-01T03:30:53.46978+00:00", "completed_at": null, "max_attempts": 4}	{"id": "36fd7d63-3da3-4058-aad9-e09eb1c3943b", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.46978+00:00", "started_at": "2026-12-01T03:30:54.248047+00:00", "lease_until": null, "start_after": "2026-12-01T03:30:53.46978+00:00", "completed_at": "2026-12-01T03:30:54.727579+00:00", "max_attempts": 4}
8	2026-12-01 03:30:54.969597+00	1787	worker-1	bf724f74-8abb-40c4-a769-e8cdae988ec7	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T03:30:53.474994+00:00", "completed_at": null, "max_attempts": 4}	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": "2026-12-01T03:30:54.968787+00:00", "lease_until": "2026-12-01T03:31:02.968787+00:00", "start_after": "2026-12-01T03:30:53.474994+00:00", "completed_at": null, "max_attempts": 4}
9	2026-12-01 03:31:03.414535+00	1835	worker-2	bf724f74-8abb-40c4-a769-e8cdae988ec7	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": "2026-12-01T03:30:54.968787+00:00", "lease_until": "2026-12-01T03:31:02.968787+00:00", "start_after": "2026-12-01T03:30:53.474994+00:00", "completed_at": null, "max_attempts": 4}	\N
10	2026-12-01 03:31:03.414595+00	1835	worker-2	bf724f74-8abb-40c4-a769-e8cdae988ec7	\N	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": null, "status": "retry", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": "2026-12-01T03:30:54.968787+00:00", "lease_until": null, "start_after": "2026-12-01T03:31:04.413052+00:00", "completed_at": null, "max_attempts": 4}
11	2026-12-01 03:31:05.41206+00	1845	worker-2	bf724f74-8abb-40c4-a769-e8cdae988ec7	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": null, "status": "retry", "attempts": 1, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": "2026-12-01T03:30:54.968787+00:00", "lease_until": null, "start_after": "2026-12-01T03:31:04.413052+00:00", "completed_at": null, "max_attempts": 4}	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": null, "status": "active", "attempts": 2, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": "2026-12-01T03:31:05.411379+00:00", "lease_until": "2026-12-01T03:31:13.411379+00:00", "start_after": "2026-12-01T03:31:04.413052+00:00", "completed_at": null, "max_attempts": 4}
12	2026-12-01 03:31:08.372295+00	1865	worker-1	bf724f74-8abb-40c4-a769-e8cdae988ec7	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": null, "status": "active", "attempts": 2, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": "2026-12-01T03:31:05.411379+00:00", "lease_until": "2026-12-01T03:31:13.411379+00:00", "start_after": "2026-12-01T03:31:04.413052+00:00", "completed_at": null, "max_attempts": 4}	{"id": "bf724f74-8abb-40c4-a769-e8cdae988ec7", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 2, "priority": 0, "created_at": "2026-12-01T03:30:53.474994+00:00", "started_at": "2026-12-01T03:31:05.411379+00:00", "lease_until": null, "start_after": "2026-12-01T03:31:04.413052+00:00", "completed_at": "2026-12-01T03:31:08.371626+00:00", "max_attempts": 4}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 12, true);


--
-- PostgreSQL database dump complete
--


