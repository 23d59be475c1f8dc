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

COMMENT ON TABLE public.job_harness_audit IS '{"jobs": "pg-boss 10", "table": "pgboss.job", "columns": {"id": "job.id", "status": "job.state", "tool": "job.name", "priority": "job.priority", "attempts": "CASE WHEN job.started_on IS NULL THEN 0 ELSE job.retry_count + 1 END", "max_attempts": "job.retry_limit + 1", "created_at": "job.created_on", "start_after": "job.start_after", "started_at": "job.started_on", "lease_until": "CASE WHEN job.state = ''active'' THEN job.started_on + job.expire_in END", "completed_at": "job.completed_on", "output": "CASE WHEN job.state IN (''completed'', ''failed'') THEN job.output END"}, "status": {"created": "PENDING", "retry": "PENDING", "active": "PROCESSING", "completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}, "deletes": false, "time_zone": null}';


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
1	2026-12-01 11:14:32.535471+00	851	sender	42e9e605-f9f0-4ce8-bb8f-c7a3d7a66241	\N	{"id": "42e9e605-f9f0-4ce8-bb8f-c7a3d7a66241", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:32.517582+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:32.517582+00:00", "completed_at": null, "max_attempts": 4}
2	2026-12-01 11:14:32.722879+00	852	worker-1	42e9e605-f9f0-4ce8-bb8f-c7a3d7a66241	{"id": "42e9e605-f9f0-4ce8-bb8f-c7a3d7a66241", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:32.517582+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:32.517582+00:00", "completed_at": null, "max_attempts": 4}	{"id": "42e9e605-f9f0-4ce8-bb8f-c7a3d7a66241", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:32.517582+00:00", "started_at": "2026-12-01T11:14:32.679076+00:00", "lease_until": "2026-12-01T11:14:40.679076+00:00", "start_after": "2026-12-01T11:14:32.517582+00:00", "completed_at": null, "max_attempts": 4}
3	2026-12-01 11:14:32.731115+00	853	sender	b4a74f5b-9138-4dd4-b0ff-cb124f659b0a	\N	{"id": "b4a74f5b-9138-4dd4-b0ff-cb124f659b0a", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:32.730176+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:32.730176+00:00", "completed_at": null, "max_attempts": 4}
4	2026-12-01 11:14:32.978432+00	855	worker-2	b4a74f5b-9138-4dd4-b0ff-cb124f659b0a	{"id": "b4a74f5b-9138-4dd4-b0ff-cb124f659b0a", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:32.730176+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:32.730176+00:00", "completed_at": null, "max_attempts": 4}	{"id": "b4a74f5b-9138-4dd4-b0ff-cb124f659b0a", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:32.730176+00:00", "started_at": "2026-12-01T11:14:32.956238+00:00", "lease_until": "2026-12-01T11:14:40.956238+00:00", "start_after": "2026-12-01T11:14:32.730176+00:00", "completed_at": null, "max_attempts": 4}
5	2026-12-01 11:14:33.064879+00	856	sender	917d96eb-6396-4c55-b040-e58fc135ae26	\N	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:33.063992+00:00", "completed_at": null, "max_attempts": 4}
6	2026-12-01 11:14:33.711549+00	859	worker-1	42e9e605-f9f0-4ce8-bb8f-c7a3d7a66241	{"id": "42e9e605-f9f0-4ce8-bb8f-c7a3d7a66241", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:32.517582+00:00", "started_at": "2026-12-01T11:14:32.679076+00:00", "lease_until": "2026-12-01T11:14:40.679076+00:00", "start_after": "2026-12-01T11:14:32.517582+00:00", "completed_at": null, "max_attempts": 4}	{"id": "42e9e605-f9f0-4ce8-bb8f-c7a3d7a66241", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:32.517582+00:00", "started_at": "2026-12-01T11:14:32.679076+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:32.517582+00:00", "completed_at": "2026-12-01T11:14:33.706227+00:00", "max_attempts": 4}
7	2026-12-01 11:14:33.732696+00	858	worker-1	917d96eb-6396-4c55-b040-e58fc135ae26	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:33.063992+00:00", "completed_at": null, "max_attempts": 4}	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": "2026-12-01T11:14:33.708851+00:00", "lease_until": "2026-12-01T11:14:41.708851+00:00", "start_after": "2026-12-01T11:14:33.063992+00:00", "completed_at": null, "max_attempts": 4}
8	2026-12-01 11:14:33.948188+00	860	worker-2	b4a74f5b-9138-4dd4-b0ff-cb124f659b0a	{"id": "b4a74f5b-9138-4dd4-b0ff-cb124f659b0a", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:32.730176+00:00", "started_at": "2026-12-01T11:14:32.956238+00:00", "lease_until": "2026-12-01T11:14:40.956238+00:00", "start_after": "2026-12-01T11:14:32.730176+00:00", "completed_at": null, "max_attempts": 4}	{"id": "b4a74f5b-9138-4dd4-b0ff-cb124f659b0a", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:32.730176+00:00", "started_at": "2026-12-01T11:14:32.956238+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:32.730176+00:00", "completed_at": "2026-12-01T11:14:33.92765+00:00", "max_attempts": 4}
9	2026-12-01 11:14:41.968188+00	876	worker-2	917d96eb-6396-4c55-b040-e58fc135ae26	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": "2026-12-01T11:14:33.708851+00:00", "lease_until": "2026-12-01T11:14:41.708851+00:00", "start_after": "2026-12-01T11:14:33.063992+00:00", "completed_at": null, "max_attempts": 4}	\N
10	2026-12-01 11:14:41.968397+00	876	worker-2	917d96eb-6396-4c55-b040-e58fc135ae26	\N	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": null, "status": "retry", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": "2026-12-01T11:14:33.708851+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:42.944416+00:00", "completed_at": null, "max_attempts": 4}
11	2026-12-01 11:14:43.52517+00	879	worker-2	917d96eb-6396-4c55-b040-e58fc135ae26	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": null, "status": "retry", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": "2026-12-01T11:14:33.708851+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:42.944416+00:00", "completed_at": null, "max_attempts": 4}	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": null, "status": "active", "attempts": 2, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": "2026-12-01T11:14:43.523778+00:00", "lease_until": "2026-12-01T11:14:51.523778+00:00", "start_after": "2026-12-01T11:14:42.944416+00:00", "completed_at": null, "max_attempts": 4}
12	2026-12-01 11:14:47.162769+00	895	worker-1	917d96eb-6396-4c55-b040-e58fc135ae26	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": null, "status": "active", "attempts": 2, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": "2026-12-01T11:14:43.523778+00:00", "lease_until": "2026-12-01T11:14:51.523778+00:00", "start_after": "2026-12-01T11:14:42.944416+00:00", "completed_at": null, "max_attempts": 4}	{"id": "917d96eb-6396-4c55-b040-e58fc135ae26", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 2, "priority": 0, "created_at": "2026-12-01T11:14:33.063992+00:00", "started_at": "2026-12-01T11:14:43.523778+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:42.944416+00:00", "completed_at": "2026-12-01T11:14:47.16179+00:00", "max_attempts": 4}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 12, true);


--
-- PostgreSQL database dump complete
--


